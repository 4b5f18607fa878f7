/* Reads and writes the common forms of JSON: no space between tokens, no escape in a text that is parsed. */
#ifndef BANK_TEXT_H
#define BANK_TEXT_H

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are read as little-endian processors have them"
#endif

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *at, *end;
} cursor;

typedef struct {
    const uint8_t *start;
    size_t length;
} slice;

/* A reader returns whether its token is at the cursor. If so, the cursor moves past the token; otherwise its position is unspecified. */

/* Leaves the cursor in place if the text is not there. */

static inline bool take(cursor *in, const char *text, size_t length) {
    if ((size_t)(in->end - in->at) < length || memcmp(in->at, text, length) != 0)
        return false;
    in->at += length;
    return true;
}

#define TAKE(in, literal) take(in, literal, sizeof(literal) - 1)

static inline bool is(slice text, const char *literal, size_t length) {
    return text.length == length && memcmp(text.start, literal, length) == 0;
}

#define IS(text, literal) is(text, literal, sizeof(literal) - 1)

bool is_utf8(const uint8_t *text, size_t length);

/* Reads a text without escapes. */
bool plain(cursor *in, slice *text);

/* A text with no escapes but those that msgspec writes: what is copied from it is as Python would write it. The slice has it as it stands
 * between the quotes. */
bool json_text(cursor *in, slice *text);

/* The same or null, whose slice starts nowhere. */
bool json_text_or_null(cursor *in, slice *text);

/* Writes what such a text stands for, which is no longer than it; answers its length. */
size_t unescape(slice text, uint8_t *bytes);

/* An integer of 64 bits. */
bool integer(cursor *in, int64_t *number);

/* Skips any value: at most 16 levels of nesting, no \u escape, and no number outside the range of a double. */
bool value(cursor *in);

/* Parse and write an instant: `2026-03-01T09:00:00.000000Z`, 27 bytes, in the years 1 to 9999. */
bool instant(slice text, int64_t *time_us);
uint8_t *write_instant(uint8_t *at, int64_t time_us);

#define MIN_US INT64_C(-62135596800000000)
#define MAX_US INT64_C(253402300799999999)

/* Parses an amount as minor units: `12.30`, not negative, no leading zeros. */
bool amount(slice text, int64_t *minor);

uint8_t *write_integer(uint8_t *at, int64_t number);
uint8_t *write_amount(uint8_t *at, unsigned __int128 minor);

static inline uint8_t *write_bytes(uint8_t *at, const void *bytes, size_t length) {
    memcpy(at, bytes, length);
    return at + length;
}

#define WRITE(at, literal) write_bytes(at, literal, sizeof(literal) - 1)

static inline uint8_t *write_slice(uint8_t *at, slice text) {
    return write_bytes(at, text.start, text.length);
}

/* Computes BLAKE2b with a digest of 8 bytes (RFC 7693). */
void blake2b_8(const uint8_t *bytes, size_t length, uint8_t digest[8]);

#endif
