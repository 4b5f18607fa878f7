/* Implements text.h: checks UTF-8; reads and writes JSON values, instants and amounts; computes digests (BLAKE2b). */
#include "text.h"

bool is_utf8(const uint8_t *text, size_t length) {
    const uint8_t *at = text, *end = text + length;
    while (at < end) {
        uint64_t eight;
        while (end - at >= 8 && (memcpy(&eight, at, 8), (eight & UINT64_C(0x8080808080808080)) == 0))
            at += 8;
        if (at == end)
            break;
        uint8_t first = *at++;
        if (first < 0x80)
            continue;
        int rest;
        /* The range of the second byte excludes overlong forms, surrogates and code points above U+10FFFF. */
        uint8_t least = 0x80, most = 0xBF;
        if (first >= 0xC2 && first <= 0xDF)
            rest = 1;
        else if (first >= 0xE0 && first <= 0xEF) {
            rest = 2;
            if (first == 0xE0)
                least = 0xA0;
            if (first == 0xED)
                most = 0x9F;
        } else if (first >= 0xF0 && first <= 0xF4) {
            rest = 3;
            if (first == 0xF0)
                least = 0x90;
            if (first == 0xF4)
                most = 0x8F;
        } else
            return false;
        for (; rest > 0; rest--, least = 0x80, most = 0xBF) {
            if (at == end || *at < least || *at > most)
                return false;
            at++;
        }
    }
    return true;
}

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Returns the first quote, backslash or control character, or the end. Tests eight bytes at a time: the lowest marked byte is the first
 * match; a byte above it may be marked without being one. */
static const uint8_t *text_end(const uint8_t *at, const uint8_t *end) {
    while (end - at >= 8) {
        uint64_t eight, quote, backslash;
        memcpy(&eight, at, 8);
        quote = eight ^ EACH('"');
        backslash = eight ^ EACH('\\');
        uint64_t marked =
            ((quote - EACH(1)) & ~quote) | ((backslash - EACH(1)) & ~backslash) | ((eight - EACH(0x20)) & ~eight);
        marked &= EACH(0x80);
        if (marked)
            return at + (__builtin_ctzll(marked) >> 3);
        at += 8;
    }
    while (at < end && *at != '"' && *at != '\\' && *at >= 0x20)
        at++;
    return at;
}

bool plain(cursor *in, slice *text) {
    const uint8_t *at = in->at;
    if (at == in->end || *at != '"')
        return false;
    text->start = ++at;
    at = text_end(at, in->end);
    if (at == in->end || *at != '"')
        return false;
    text->length = (size_t)(at - text->start);
    in->at = at + 1;
    return true;
}

static bool is_digit(uint8_t byte) {
    return byte >= '0' && byte <= '9';
}

bool integer(cursor *in, int64_t *number) {
    const uint8_t *at = in->at;
    bool negative = at < in->end && *at == '-';
    at += negative;
    const uint8_t *digits = at;
    uint64_t sum = 0;
    while (at < in->end && is_digit(*at)) {
        if (at - digits == 19)
            return false;
        sum = sum * 10 + (uint64_t)(*at++ - '0');
    }
    if (at == digits || (*digits == '0' && (at - digits > 1 || negative)))
        return false;
    if (at < in->end && (*at == '.' || *at == 'e' || *at == 'E'))
        return false;
    if (sum > (uint64_t)INT64_MAX + negative)
        return false;
    *number = (int64_t)(negative ? -sum : sum);
    in->at = at;
    return true;
}

/* Skips a number of at most 200 characters before the exponent and two digits of exponent: it is in the range of a double. */
static bool number(cursor *in) {
    const uint8_t *at = in->at, *end = in->end;
    if (at < end && *at == '-')
        at++;
    if (at == end || !is_digit(*at))
        return false;
    if (*at++ != '0')
        while (at < end && is_digit(*at))
            at++;
    if (at < end && *at == '.') {
        at++;
        if (at == end || !is_digit(*at))
            return false;
        while (at < end && is_digit(*at))
            at++;
    }
    if (at - in->at > 200)
        return false;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        const uint8_t *exponent = at;
        while (at < end && is_digit(*at))
            at++;
        if (at == exponent || at - exponent > 2)
            return false;
    }
    in->at = at;
    return true;
}

/* The escapes of one letter; `\/` is the only one that msgspec does not write. */
static const char LETTERS[] = "\"\\bfnrt/", MEANT[] = "\"\\\b\f\n\r\t/";

/* Behind `\u`: a control character that has no letter, in the digits that msgspec writes. */
static bool control(const uint8_t *at, const uint8_t *end, uint8_t *meant) {
    if (end - at < 4 || at[0] != '0' || at[1] != '0' || (at[2] != '0' && at[2] != '1'))
        return false;
    if (!is_digit(at[3]) && (at[3] < 'a' || at[3] > 'f'))
        return false;
    *meant = (uint8_t)((at[2] - '0') * 16 + (is_digit(at[3]) ? at[3] - '0' : at[3] - 'a' + 10));
    return *meant == 0 || strchr(MEANT, *meant) == NULL;
}

/* What else \u may stand for is not looked at here. */
static bool escaped(cursor *in, size_t letters) {
    const uint8_t *at = in->at + 1;
    uint8_t meant;
    while ((at = text_end(at, in->end)) < in->end && *at == '\\') {
        if (++at == in->end)
            return false;
        if (*at == 'u' && control(at + 1, in->end, &meant))
            at += 5;
        else if (memchr(LETTERS, *at, letters) != NULL)
            at++;
        else
            return false;
    }
    if (at == in->end || *at != '"')
        return false;
    in->at = at + 1;
    return true;
}

bool json_text(cursor *in, slice *text) {
    const uint8_t *start = in->at;
    if (start == in->end || *start != '"' || !escaped(in, sizeof LETTERS - 2))
        return false;
    *text = (slice){start + 1, (size_t)(in->at - start) - 2};
    return true;
}

bool json_text_or_null(cursor *in, slice *text) {
    if (TAKE(in, "null")) {
        *text = (slice){NULL, 0};
        return true;
    }
    return json_text(in, text);
}

size_t unescape(slice text, uint8_t *bytes) {
    const uint8_t *at = text.start, *end = at + text.length;
    uint8_t *to = bytes;
    while (at < end) {
        if (*at != '\\')
            *to++ = *at++;
        else if (at[1] == 'u') {
            control(at + 2, end, to++);
            at += 6;
        } else {
            *to++ = (uint8_t)MEANT[strchr(LETTERS, at[1]) - LETTERS];
            at += 2;
        }
    }
    return (size_t)(to - bytes);
}

static bool nested(cursor *in, int depth) {
    if (in->at == in->end)
        return false;
    switch (*in->at) {
    case '"':
        return escaped(in, sizeof LETTERS - 1);
    case 'n':
        return TAKE(in, "null");
    case 't':
        return TAKE(in, "true");
    case 'f':
        return TAKE(in, "false");
    case '[':
        if (depth == 16)
            return false;
        in->at++;
        if (TAKE(in, "]"))
            return true;
        do {
            if (!nested(in, depth + 1))
                return false;
        } while (TAKE(in, ","));
        return TAKE(in, "]");
    case '{':
        if (depth == 16)
            return false;
        in->at++;
        if (TAKE(in, "}"))
            return true;
        do {
            if (in->at == in->end || *in->at != '"' || !escaped(in, sizeof LETTERS - 1) || !TAKE(in, ":") ||
                !nested(in, depth + 1))
                return false;
        } while (TAKE(in, ","));
        return TAKE(in, "}");
    default:
        return number(in);
    }
}

bool value(cursor *in) {
    return nested(in, 0);
}

/* Returns the days from 1970-01-01 to a date in the proleptic Gregorian calendar; write_instant has the inverse. An era has 400 years and
 * begins in March. */
static int64_t days_of(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool digits(const uint8_t *at, int count, int64_t *number) {
    *number = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit(at[i]))
            return false;
        *number = *number * 10 + (at[i] - '0');
    }
    return true;
}

bool instant(slice text, int64_t *time_us) {
    static const uint8_t length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const uint8_t *at = text.start;
    int64_t year, month, day, hour, minute, second, micro;
    if (text.length != 27 || at[4] != '-' || at[7] != '-' || at[10] != 'T' || at[13] != ':' || at[16] != ':' ||
        at[19] != '.' || at[26] != 'Z')
        return false;
    if (!digits(at, 4, &year) || !digits(at + 5, 2, &month) || !digits(at + 8, 2, &day) || !digits(at + 11, 2, &hour) ||
        !digits(at + 14, 2, &minute) || !digits(at + 17, 2, &second) || !digits(at + 20, 6, &micro))
        return false;
    if (year < 1 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59)
        return false;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > length[month - 1] + (month == 2 && leap))
        return false;
    *time_us = (((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + micro;
    return true;
}

static uint8_t *write_digits(uint8_t *at, int64_t number, int count) {
    for (int i = count - 1; i >= 0; i--, number /= 10)
        at[i] = (uint8_t)('0' + number % 10);
    return at + count;
}

uint8_t *write_instant(uint8_t *at, int64_t time_us) {
    int64_t days = time_us / 86400000000, of_day = time_us % 86400000000;
    if (of_day < 0)
        days--, of_day += 86400000000;
    int64_t shifted = days + 719468, era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t of_era = shifted - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100), moon = (5 * of_year + 2) / 153;
    int64_t day = of_year - (153 * moon + 2) / 5 + 1, month = moon < 10 ? moon + 3 : moon - 9;
    year += era * 400 + (month <= 2);
    at = write_digits(at, year, 4);
    *at++ = '-';
    at = write_digits(at, month, 2);
    *at++ = '-';
    at = write_digits(at, day, 2);
    *at++ = 'T';
    at = write_digits(at, of_day / 3600000000, 2);
    *at++ = ':';
    at = write_digits(at, of_day / 60000000 % 60, 2);
    *at++ = ':';
    at = write_digits(at, of_day / 1000000 % 60, 2);
    *at++ = '.';
    at = write_digits(at, of_day % 1000000, 6);
    *at++ = 'Z';
    return at;
}

bool amount(slice text, int64_t *minor) {
    if (text.length < 4 || text.length > 19 || text.start[text.length - 3] != '.')
        return false;
    if (text.start[0] == '0' && text.length > 4)
        return false;
    int64_t whole, fraction;
    int whole_digits = (int)text.length - 3;
    if (!digits(text.start, whole_digits, &whole) || !digits(text.start + whole_digits + 1, 2, &fraction))
        return false;
    *minor = whole * 100 + fraction;
    return true;
}

static uint8_t *write_natural(uint8_t *at, uint64_t number) {
    uint8_t backwards[20], *first = backwards + sizeof backwards;
    do
        *--first = (uint8_t)('0' + number % 10);
    while (number /= 10);
    return write_bytes(at, first, (size_t)(backwards + sizeof backwards - first));
}

uint8_t *write_integer(uint8_t *at, int64_t number) {
    if (number >= 0)
        return write_natural(at, (uint64_t)number);
    *at++ = '-';
    return write_natural(at, -(uint64_t)number);
}

uint8_t *write_amount(uint8_t *at, unsigned __int128 minor) {
    const uint64_t eighteen = UINT64_C(1000000000000000000);
    unsigned __int128 whole;
    uint64_t fraction;
    if (minor >> 64) { /* rare: a division of 128 bits is slow */
        whole = minor / 100;
        fraction = (uint64_t)(minor % 100);
    } else {
        whole = (uint64_t)minor / 100;
        fraction = (uint64_t)minor % 100;
    }
    if (whole >> 64) { /* below 2^128 / 100, so whole / eighteen fits in 64 bits */
        uint64_t low = (uint64_t)(whole % eighteen);
        at = write_natural(at, (uint64_t)(whole / eighteen));
        at = write_digits(at, (int64_t)low, 18);
    } else
        at = write_natural(at, (uint64_t)whole);
    *at++ = '.';
    return write_digits(at, (int64_t)fraction, 2);
}

static uint64_t rotated(uint64_t word, int by) {
    return word >> by | word << (64 - by);
}

static uint64_t word_at(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static const uint64_t INITIAL[8] = {UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b),
                                    UINT64_C(0x3c6ef372fe94f82b), UINT64_C(0xa54ff53a5f1d36f1),
                                    UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f),
                                    UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179)};

static const uint8_t SIGMA[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static void compress(uint64_t state[8], const uint8_t block[128], uint64_t counted, bool last) {
    uint64_t v[16], m[16];
    for (int i = 0; i < 8; i++)
        v[i] = state[i], v[i + 8] = INITIAL[i];
    v[12] ^= counted;
    if (last)
        v[14] = ~v[14];
    for (int i = 0; i < 16; i++)
        m[i] = word_at(block + 8 * i);
#define MIX(a, b, c, d, x, y)                                                                                          \
    v[a] += v[b] + m[x], v[d] = rotated(v[d] ^ v[a], 32), v[c] += v[d], v[b] = rotated(v[b] ^ v[c], 24);               \
    v[a] += v[b] + m[y], v[d] = rotated(v[d] ^ v[a], 16), v[c] += v[d], v[b] = rotated(v[b] ^ v[c], 63)
#pragma GCC unroll 12
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = SIGMA[round % 10];
        MIX(0, 4, 8, 12, s[0], s[1]);
        MIX(1, 5, 9, 13, s[2], s[3]);
        MIX(2, 6, 10, 14, s[4], s[5]);
        MIX(3, 7, 11, 15, s[6], s[7]);
        MIX(0, 5, 10, 15, s[8], s[9]);
        MIX(1, 6, 11, 12, s[10], s[11]);
        MIX(2, 7, 8, 13, s[12], s[13]);
        MIX(3, 4, 9, 14, s[14], s[15]);
    }
#undef MIX
    for (int i = 0; i < 8; i++)
        state[i] ^= v[i] ^ v[i + 8];
}

void blake2b_8(const uint8_t *bytes, size_t length, uint8_t digest[8]) {
    uint64_t state[8], counted = 0;
    uint8_t last[128] = {0};
    memcpy(state, INITIAL, sizeof state);
    state[0] ^= 0x01010000 ^ 8;
    for (; length > 128; bytes += 128, length -= 128) {
        counted += 128;
        compress(state, bytes, counted, false);
    }
    if (length)
        memcpy(last, bytes, length);
    compress(state, last, counted + length, true);
    for (int i = 0; i < 8; i++)
        digest[i] = (uint8_t)(state[0] >> 8 * i);
}
