/* Numbers byte strings, so that an event keeps a number in place of the bytes. Numbers are valid in this process only. */
#include "words.h"

#include "memory.h"
#include "text.h"

typedef struct {
    uint8_t *bytes;
    size_t length;
} word_bytes;

static word_bytes *words;
static uint32_t count, room;
static uint32_t *places, mask; /* 0: free */

static uint32_t home(const uint8_t *bytes, size_t length) {
    uint64_t mixed = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < length; i++)
        mixed = (mixed ^ bytes[i]) * UINT64_C(0x100000001B3);
    return (uint32_t)(mixed ^ mixed >> 32);
}

static uint32_t place_of(const uint8_t *bytes, size_t length) {
    uint32_t at = home(bytes, length) & mask;
    for (; places[at]; at = (at + 1) & mask) {
        const word_bytes *one = &words[places[at] - 1];
        if (one->length == length && memcmp(one->bytes, bytes, length) == 0)
            break;
    }
    return at;
}

static void widen(void) {
    if (mask && count * 2 <= mask)
        return;
    mask = mask ? mask * 2 + 1 : 63;
    free(places);
    places = sized(NULL, (size_t)mask + 1, sizeof *places);
    memset(places, 0, ((size_t)mask + 1) * sizeof *places);
    for (uint32_t i = 0; i < count; i++)
        places[place_of(words[i].bytes, words[i].length)] = i + 1;
}

uint32_t bank_intern(const uint8_t *bytes, size_t length) {
    widen();
    uint32_t at = place_of(bytes, length);
    if (places[at])
        return places[at];
    words = grown(words, &room, count, sizeof *words);
    words[count] = (word_bytes){sized(NULL, length + 1, 1), length};
    memcpy(words[count].bytes, bytes, length);
    return places[at] = ++count;
}

const uint8_t *bank_interned(uint32_t number, size_t *length) {
    if (number == 0 || number > count)
        return NULL;
    *length = words[number - 1].length;
    return words[number - 1].bytes;
}
