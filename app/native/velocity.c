/* Applies a record of bank.transactions to its customer's history: when it is stale or repeated, what of it is kept, its windows, and
 * what the rules have to do with it. app/domain/velocity.py says what each of these is. */
#include "bank.h"
#include "chunks.h"
#include "history.h"
#include "memory.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>

const char *bank_sources(void) {
    return BANK_SOURCES;
}

typedef struct {
    bank_event event;
    int64_t customer_id, commit_us;
    slice booked_at, currency, country, counterparty, source; /* as they stand in the record */
    enum { CREATED, UPDATED, DELETED } operation;
} transaction;

static bool natural(cursor *in, int64_t *number) {
    return integer(in, number) && *number >= 0;
}

static bool read_source(cursor *in, transaction *it) {
    slice text;
    int64_t number;
    it->source.start = in->at;
    if (!TAKE(in, "{\"topic\":") || !json_text(in, &text) || !TAKE(in, ",\"partition\":") || !natural(in, &number) ||
        number > INT32_MAX)
        return false;
    it->event.partition = (int32_t)number;
    if (!TAKE(in, ",\"offset\":") || !natural(in, &it->event.offset) || !TAKE(in, ",\"lsn\":"))
        return false;
    it->event.lsn = -1;
    if (!TAKE(in, "null") && !natural(in, &it->event.lsn))
        return false;
    if (!TAKE(in, ",\"tx_id\":") || (!TAKE(in, "null") && !integer(in, &number)))
        return false;
    if (!TAKE(in, ",\"commit_time\":") || !plain(in, &text) || !instant(text, &it->commit_us) || !TAKE(in, "}"))
        return false;
    it->source.length = (size_t)(in->at - it->source.start);
    return true;
}

/* A member that may be null. */
#define NULLABLE(in, name, text) (TAKE(in, ",\"" name "\":") && json_text_or_null(in, text))

static bool read_record(const uint8_t *bytes, size_t length, transaction *it) {
    cursor stream = {bytes, bytes + length}, *in = &stream;
    slice kind, text, status;
    bank_event *event = &it->event;
    *it = (transaction){0};
    if (!is_utf8(bytes, length) || !TAKE(in, "{\"op\":\""))
        return false;
    if (TAKE(in, "updated\""))
        it->operation = UPDATED;
    else if (TAKE(in, "deleted\""))
        it->operation = DELETED;
    else if (!TAKE(in, "created\""))
        return false;
    if (!TAKE(in, ",\"transaction_id\":") || !integer(in, &event->transaction_id) || !TAKE(in, ",\"account_id\":") ||
        !integer(in, &event->account_id) || !TAKE(in, ",\"customer_id\":") || !integer(in, &it->customer_id) ||
        !TAKE(in, ",\"type\":") || !plain(in, &kind))
        return false;
    event->credit = IS(kind, "credit");
    if (!event->credit && !IS(kind, "debit"))
        return false;
    if (!TAKE(in, ",\"amount\":") || !plain(in, &text) || !amount(text, &event->amount_minor) ||
        !TAKE(in, ",\"currency\":") || !json_text(in, &it->currency) || !TAKE(in, ",\"status\":") ||
        !json_text(in, &status))
        return false;
    event->status = IS(status, "pending") ? PENDING
        : IS(status, "posted")            ? POSTED
        : IS(status, "reversed")          ? REVERSED
        : IS(status, "declined")          ? DECLINED
                                          : OTHER;
    if (!NULLABLE(in, "channel", &text) || !NULLABLE(in, "merchant_id", &text) ||
        !NULLABLE(in, "merchant_category", &text) || !NULLABLE(in, "counterparty_account", &it->counterparty) ||
        !NULLABLE(in, "country_code", &it->country) || !NULLABLE(in, "latitude", &text) ||
        !NULLABLE(in, "longitude", &text) || !NULLABLE(in, "device_id", &text) || !NULLABLE(in, "description", &text))
        return false;
    if (!TAKE(in, ",\"booked_at\":") || !plain(in, &it->booked_at) || !instant(it->booked_at, &event->time_us) ||
        !NULLABLE(in, "created_at", &text))
        return false;
    return TAKE(in, ",\"account\":") && in->at < in->end && *in->at == '{' && value(in) && TAKE(in, ",\"source\":") &&
        read_source(in, it) && TAKE(in, "}") && in->at == in->end;
}

/* What a text of the record stands for: itself, or what it was written into, which the caller frees. */
static slice plainly(slice written, uint8_t **made) {
    *made = NULL;
    if (written.length == 0 || memchr(written.start, '\\', written.length) == NULL)
        return written;
    *made = sized(NULL, written.length, 1);
    return (slice){*made, unescape(written, *made)};
}

static uint64_t word_of(bank_history *history, slice written) {
    uint8_t *made;
    slice text = plainly(written, &made);
    uint64_t word = text.length ? bank_history_word(history, text.start, text.length) : 0;
    free(made);
    return word;
}

static uint64_t hash_of(slice written) {
    uint8_t *made, digest[8];
    uint64_t hash = 0;
    slice text = plainly(written, &made);
    if (text.length) {
        blake2b_8(text.start, text.length, digest);
        for (int i = 0; i < 8; i++)
            hash = hash << 8 | digest[i];
        hash += hash == 0;
    }
    free(made);
    return hash;
}

/* PostgreSQL's positions rise with every change of one row. */
static bool is_stale(const bank_event *event, const bank_event *known) {
    return event->lsn >= 0 && known->lsn >= 0 && event->lsn < known->lsn;
}

static bool is_repeated(const transaction *it, const bank_event *known) {
    const bank_event *event = &it->event;
    if (known->time_us != event->time_us || known->status != event->status || !weighs_the_same(known, event))
        return false;
    if (it->operation == CREATED)
        return true;
    if (event->lsn >= 0)
        return event->lsn == known->lsn;
    return event->partition == known->partition && event->offset == known->offset;
}

/* Whether the rules have to look at a transaction again. */
static bool is_news(const bank_event *event, const bank_event *known) {
    return known->time_us != event->time_us || known->amount_minor != event->amount_minor ||
        known->currency != event->currency || known->status != event->status;
}

static void write_key(uint8_t *at, int64_t customer_id, const bank_event *event) {
    at = write_key_part(at, customer_id);
    at = write_key_part(at, event->time_us);
    at = write_key_part(at, event->account_id);
    write_key_part(at, event->transaction_id);
}

static uint8_t *write_big_endian(uint8_t *at, uint8_t mark, uint64_t number, int bytes) {
    *at++ = mark;
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        *at++ = (uint8_t)(number >> shift);
    return at;
}

/* Writes a number in MessagePack in as few bytes as possible, as msgspec does. */
static uint8_t *write_packed(uint8_t *at, uint64_t number) {
    if (number < 128) {
        *at = (uint8_t)number;
        return at + 1;
    }
    if (number <= UINT8_MAX)
        return write_big_endian(at, 0xCC, number, 1);
    if (number <= UINT16_MAX)
        return write_big_endian(at, 0xCD, number, 2);
    if (number <= UINT32_MAX)
        return write_big_endian(at, 0xCE, number, 4);
    return write_big_endian(at, 0xCF, number, 8);
}

static uint8_t *write_packed_text(uint8_t *at, text it) {
    if (it.length < 32)
        *at++ = (uint8_t)(0xA0 | it.length);
    else if (it.length <= UINT8_MAX)
        at = write_big_endian(at, 0xD9, it.length, 1);
    else if (it.length <= UINT16_MAX)
        at = write_big_endian(at, 0xDA, it.length, 2);
    else
        at = write_big_endian(at, 0xDB, it.length, 4);
    return write_bytes(at, it.bytes, it.length);
}

#define NIL 0xC0

/* `Facts` of app/domain/events.py. What has fired is a list that is encoded already. */
static uint8_t *write_facts(uint8_t *at, const bank_history *history, const bank_event *event) {
    *at++ = 0x9A; /* ten of them */
    at = write_packed(at, (uint64_t)event->amount_minor);
    at = write_packed_text(at, text_of(history, &event->currency));
    *at++ = event->credit ? 0xC3 : 0xC2;
    at = write_packed(at, event->status);
    at = write_packed(at, event->counterparty);
    if (event->country)
        at = write_packed_text(at, text_of(history, &event->country));
    else
        *at++ = NIL;
    if (event->lsn >= 0)
        at = write_packed(at, (uint64_t)event->lsn);
    else
        *at++ = NIL;
    at = write_packed(at, (uint64_t)event->partition);
    at = write_packed(at, (uint64_t)event->offset);
    if (event->fired == 0) {
        *at++ = 0x90;
        return at;
    }
    const text *fired = &history->texts[event->fired - 1];
    return write_bytes(at, fired->bytes, fired->length);
}

/* Seconds, as the shortest decimal that is this double. */
static uint8_t *write_seconds(uint8_t *at, int64_t micros) {
    char exact[32], shortest[32];
    if (micros > 0 && micros < 10) {
        *at++ = (uint8_t)('0' + micros);
        return WRITE(at, "e-6");
    }
    uint8_t *start = at, *end;
    at = write_integer(at, micros / 1000000);
    *at++ = '.';
    int64_t rest = micros % 1000000;
    for (int64_t unit = 100000; unit; unit /= 10)
        *at++ = (uint8_t)('0' + rest / unit % 10);
    for (end = at; end[-1] == '0' && end[-2] != '.'; end--)
        ;
    if (micros < INT64_C(1000000000000000)) /* 15 digits are the shortest there are */
        return end;
    write_bytes((uint8_t *)exact, start, (size_t)(at - start))[0] = 0;
    double seconds = strtod(exact, NULL);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(shortest, sizeof shortest, "%.*g", digits, seconds);
        if (strtod(shortest, NULL) == seconds)
            break;
    }
    at = write_bytes(start, shortest, strlen(shortest));
    return strchr(shortest, '.') == NULL ? WRITE(at, ".0") : at;
}

static bool
is_concern(const bank_history *history, const bank_event *event, const int64_t window_counts[BANK_WINDOWS]) {
    for (int32_t i = 0; i < history->rules->concerns; i++) {
        const bank_concern *concern = &history->rules->concern[i];
        if (event->amount_minor >= concern->at_least_minor &&
            (concern->window < 0 || window_counts[concern->window] >= concern->count) &&
            (concern->after < 0 || history_has_amount(history, concern->after, event->currency, concern->after_us)))
            return true;
    }
    return false;
}

/* Windows of a transaction beyond the horizon: of itself alone. */
static uint8_t *write_windows_alone(const bank_rules *rules, const bank_event *event, uint8_t *at) {
    int64_t window_counts[BANK_WINDOWS];
    bank_history *alone = bank_history_new(rules);
    history_add(alone, event);
    at = history_windows(alone, event->time_us, event->currency, at, window_counts);
    bank_history_free(alone);
    return at;
}

/* Puts the event into the history if it is within the horizon, and writes the record of its windows. */
static uint8_t *keep(
    bank_history *history, const transaction *it, const bank_event *known, bool is_kept, bank_screened *to,
    uint8_t *at) {
    const bank_event *event = &it->event;
    bank_event earlier;
    int64_t window_counts[BANK_WINDOWS];
    at = WRITE(at, "{\"customer_id\":");
    at = write_integer(at, it->customer_id);
    at = WRITE(at, ",\"account_id\":");
    at = write_integer(at, event->account_id);
    at = WRITE(at, ",\"transaction_id\":");
    at = write_integer(at, event->transaction_id);
    at = WRITE(at, ",\"event_time\":\"");
    at = write_slice(at, it->booked_at);
    at = WRITE(at, "\",\"currency\":\"");
    at = write_slice(at, it->currency);
    at = WRITE(at, "\",\"windows\":");
    if (known != NULL && !(is_kept && known->time_us == event->time_us)) {
        to->gone = 1;
        write_key(to->gone_key, it->customer_id, known);
    }
    bool has_earlier = false;
    if (is_kept) {
        if (known == NULL)
            history_add(history, event);
        else
            bank_history_put(history, event);
        at = history_windows(history, event->time_us, event->currency, at, window_counts);
        has_earlier = bank_history_previous(history, event, &earlier);
    } else {
        bank_history_remove(history, event->account_id, event->transaction_id);
        at = write_windows_alone(history->rules, event, at);
    }
    at = WRITE(at, ",\"seconds_since_previous\":");
    at = has_earlier ? write_seconds(at, event->time_us - earlier.time_us) : WRITE(at, "null");
    at = WRITE(at, ",\"source\":");
    at = write_slice(at, it->source);
    at = WRITE(at, "}");
    if (counts(event->status) && (known == NULL || is_news(event, known)))
        to->look = !is_kept || (known == NULL && it->operation == UPDATED)   ? BANK_UNKNOWN
            : event->fired != 0 || is_concern(history, event, window_counts) ? BANK_CONCERNED
                                                                             : BANK_QUIET;
    return at;
}

int64_t bank_velocity(
    bank_history *history, const uint8_t *value, size_t value_length, int64_t customer_id, uint8_t *out, size_t room) {
    transaction it;
    if (!read_record(value, value_length, &it) || it.customer_id != customer_id)
        return 0;
    bank_event *event = &it.event, known, marker;
    int64_t newest_us = event->time_us;
    const bank_event *newest = history_newest(history);
    if (newest != NULL && newest->time_us > newest_us)
        newest_us = newest->time_us;
    int64_t horizon_us = (newest_us < it.commit_us ? newest_us : it.commit_us) - history->rules->kept_us;
    const bank_event *found = history_find(history, event->account_id, event->transaction_id);
    bool is_known = found != NULL && found->time_us >= horizon_us;
    size_t needed = 8192 + 2 * value_length;
    if (is_known) {
        known = *found;
        needed += text_of(history, &known.currency).length;
        needed += known.fired ? history->texts[known.fired - 1].length : 0;
    }
    if (needed > room)
        return -(int64_t)needed;

    event->currency = word_of(history, it.currency);
    event->country = word_of(history, it.country);
    event->counterparty = hash_of(it.counterparty);
    event->fired = is_known ? known.fired : 0;
    bank_screened to = {.lsn = event->lsn};
    uint8_t *at = out + BANK_JSON;
    bank_history_expire(history, horizon_us, NULL);

    const bank_event *kept = NULL;
    if (is_known && is_stale(event, &known))
        ;
    else if (it.operation == DELETED) {
        if (is_known) {
            to.gone = bank_history_forget(history, event->account_id, event->transaction_id, &marker) == 1;
            write_key(to.gone_key, customer_id, &known);
            kept = to.gone ? NULL : &marker;
        }
    } else if (!is_known || !is_repeated(&it, &known)) {
        bool is_kept = event->time_us >= horizon_us;
        uint8_t *json = at;
        at = keep(history, &it, is_known ? &known : NULL, is_kept, &to, at);
        to.json = (uint32_t)(at - json);
        kept = is_kept ? event : NULL;
    }
    if (kept != NULL) {
        write_key(to.key, customer_id, kept);
        to.facts = (uint32_t)(write_facts(at, history, kept) - at);
    }
    memcpy(out, &to, sizeof to);
    return 1;
}
