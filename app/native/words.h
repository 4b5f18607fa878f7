/* Declares how byte strings are numbered. */
#ifndef BANK_WORDS_H
#define BANK_WORDS_H

#include <stdbool.h>

#include "bank.h"
#include "text.h"

/* A word has at most eight bytes in itself, filled up with zeros. UTF-8 has no byte 0xFF: a word whose last byte is that has in its first
 * four bytes the number of a longer text. */
#define WORD_BYTES 8
#define LONG_WORD (UINT64_C(0xFF) << 56)

/* The word of a text of any length, which has no zero byte. */
static inline bool word_of(slice text, uint64_t *word) {
    *word = 0;
    if (text.length == 0 || memchr(text.start, 0, text.length) != NULL)
        return false;
    if (text.length <= WORD_BYTES)
        memcpy(word, text.start, text.length);
    else
        *word = LONG_WORD | bank_intern(text.start, text.length);
    return true;
}

/* The text of a word; it is at `word` itself or lasts as long as the process. */
static inline slice text_of_word(const uint64_t *word) {
    slice text = {(const uint8_t *)word, 0};
    if (*word >> 56 == 0xFF) {
        text.start = bank_interned((uint32_t)*word, &text.length);
        return text;
    }
    while (text.length < WORD_BYTES && text.start[text.length])
        text.length++;
    return text;
}

#endif
