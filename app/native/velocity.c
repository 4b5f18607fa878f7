/* Applies a common transaction to its customer's history, as agents/velocity.py and app/domain/screening.py do. A transaction is common
 * if it is new, or an update that changes its status but not its time; if its time is within the horizon; and if its record is encoded as
 * msgspec encodes it. */
#include "bank.h"
#include "chunks.h"
#include "history.h"
#include "text.h"

const char *bank_sources(void) {
    return BANK_SOURCES;
}

enum { UNSEEN, QUIET, CONCERNED };

typedef struct {
    bank_event event;
    int64_t customer_id, commit_us;
    slice customer, account, transaction, booked_at, currency, country, source;
    bool updated;
} transaction;

static bool digits_of(cursor *in, slice *text, int64_t *number) {
    text->start = in->at;
    if (!integer(in, number))
        return false;
    text->length = (size_t)(in->at - text->start);
    return true;
}

/* Stores a text of one to eight bytes in a number. */
static bool word(slice text, uint64_t *number) {
    *number = 0;
    if (text.length < 1 || text.length > 8 || memchr(text.start, 0, text.length) != NULL)
        return false;
    memcpy(number, text.start, text.length);
    return true;
}

static bool read_source(cursor *in, transaction *it) {
    slice text;
    int64_t number;
    it->source.start = in->at;
    if (!TAKE(in, "{\"topic\":") || !plain(in, &text) || !TAKE(in, ",\"partition\":") || !integer(in, &number) ||
        number < 0 || number > INT32_MAX)
        return false;
    it->event.partition = (int32_t)number;
    if (!TAKE(in, ",\"offset\":") || !integer(in, &it->event.offset) || !TAKE(in, ",\"lsn\":"))
        return false;
    it->event.lsn = -1;
    if (!TAKE(in, "null") && (!integer(in, &it->event.lsn) || it->event.lsn < 0))
        return false;
    if (!TAKE(in, ",\"tx_id\":") || (!TAKE(in, "null") && !integer(in, &number)))
        return false;
    if (!TAKE(in, ",\"commit_time\":") || !plain(in, &text) || !instant(text, &it->commit_us) || !TAKE(in, "}"))
        return false;
    it->source.length = (size_t)(in->at - it->source.start);
    return true;
}

static bool read_record(const uint8_t *bytes, size_t length, transaction *it) {
    cursor stream = {bytes, bytes + length}, *in = &stream;
    slice kind, text, status, counterparty;
    bank_event *event = &it->event;
    *it = (transaction){0};
    if (!is_utf8(bytes, length) || !TAKE(in, "{\"op\":\""))
        return false;
    if (TAKE(in, "updated\""))
        it->updated = true;
    else if (!TAKE(in, "created\""))
        return false;
    if (!TAKE(in, ",\"transaction_id\":") || !digits_of(in, &it->transaction, &event->transaction_id) ||
        !TAKE(in, ",\"account_id\":") || !digits_of(in, &it->account, &event->account_id) ||
        !TAKE(in, ",\"customer_id\":") || !digits_of(in, &it->customer, &it->customer_id) || !TAKE(in, ",\"type\":") ||
        !plain(in, &kind))
        return false;
    event->credit = IS(kind, "credit");
    if (!event->credit && !IS(kind, "debit"))
        return false;
    if (!TAKE(in, ",\"amount\":") || !plain(in, &text) || !amount(text, &event->amount_minor) ||
        !TAKE(in, ",\"currency\":") || !plain(in, &it->currency) || !word(it->currency, &event->currency) ||
        !TAKE(in, ",\"status\":") || !plain(in, &status))
        return false;
    event->status = IS(status, "pending") ? PENDING
        : IS(status, "posted")            ? POSTED
        : IS(status, "reversed")          ? REVERSED
        : IS(status, "declined")          ? DECLINED
                                          : OTHER;
    if (!TAKE(in, ",\"channel\":") || !plain_or_null(in, &text) || !TAKE(in, ",\"merchant_id\":") ||
        !plain_or_null(in, &text) || !TAKE(in, ",\"merchant_category\":") || !plain_or_null(in, &text) ||
        !TAKE(in, ",\"counterparty_account\":") || !plain_or_null(in, &counterparty) ||
        !TAKE(in, ",\"country_code\":") || !plain_or_null(in, &it->country) ||
        (it->country.length && !word(it->country, &event->country)))
        return false;
    if (!TAKE(in, ",\"latitude\":") || !plain_or_null(in, &text) || !TAKE(in, ",\"longitude\":") ||
        !plain_or_null(in, &text) || !TAKE(in, ",\"device_id\":") || !plain_or_null(in, &text) ||
        !TAKE(in, ",\"description\":") || !plain_or_null(in, &text) || !TAKE(in, ",\"booked_at\":") ||
        !plain(in, &it->booked_at) || !instant(it->booked_at, &event->time_us) || !TAKE(in, ",\"created_at\":") ||
        !plain_or_null(in, &text))
        return false;
    if (!TAKE(in, ",\"account\":") || in->at == in->end || *in->at != '{' || !value(in) || !TAKE(in, ",\"source\":") ||
        !read_source(in, it) || !TAKE(in, "}") || in->at != in->end)
        return false;
    if (counterparty.length) {
        uint8_t digest[8];
        blake2b_8(counterparty.start, counterparty.length, digest);
        for (int i = 0; i < 8; i++)
            event->counterparty = event->counterparty << 8 | digest[i];
        event->counterparty += event->counterparty == 0;
    }
    return true;
}

/* Returns whether C can correct `known`, an event within the horizon: the change is not older, the status differs, the time does not, and
 * no rule has fired on `known`. */
static bool corrects(const bank_event *event, const bank_event *known) {
    bool is_older = event->lsn >= 0 && known->lsn >= 0 && event->lsn < known->lsn;
    return !is_older && known->fired == 0 && known->time_us == event->time_us && known->status != event->status &&
        known->status != REMOVED;
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

static uint8_t *write_packed_text(uint8_t *at, slice text) {
    *at++ = (uint8_t)(0xA0 | text.length);
    return write_slice(at, text);
}

#define NIL 0xC0

/* Writes `Facts` of app/domain/events.py without fired rules. Returns the length. */
static size_t write_facts(uint8_t *at, const transaction *it) {
    const bank_event *event = &it->event;
    uint8_t *start = at;
    *at++ = 0x9A; /* an array of ten */
    at = write_packed(at, (uint64_t)event->amount_minor);
    at = write_packed_text(at, it->currency);
    *at++ = event->credit ? 0xC3 : 0xC2;
    at = write_packed(at, event->status);
    at = write_packed(at, event->counterparty);
    if (event->country)
        at = write_packed_text(at, it->country);
    else
        *at++ = NIL;
    if (event->lsn >= 0)
        at = write_packed(at, (uint64_t)event->lsn);
    else
        *at++ = NIL;
    at = write_packed(at, (uint64_t)event->partition);
    at = write_packed(at, (uint64_t)event->offset);
    *at++ = 0x90;
    return (size_t)(at - start);
}

/* Writes seconds as the shortest decimal of the double. Up to 31 days, six digits after the point are enough for that. */
static uint8_t *write_seconds(uint8_t *at, int64_t micros) {
    uint8_t *end;
    at = write_integer(at, micros / 1000000);
    *at++ = '.';
    int64_t rest = micros % 1000000;
    for (int64_t unit = 100000; unit; unit /= 10)
        *at++ = (uint8_t)('0' + rest / unit % 10);
    for (end = at; end[-1] == '0' && end[-2] != '.'; end--)
        ;
    return end;
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

int64_t bank_velocity(
    bank_history *history, const uint8_t *value, size_t value_length, int64_t customer_id, int64_t truncated_lsn,
    uint8_t *out) {
    transaction it;
    if (!read_record(value, value_length, &it) || it.customer_id != customer_id || it.event.offset < 0 ||
        it.source.length > 1024)
        return 0;
    const bank_rules *rules = history->rules;
    bank_event *event = &it.event, earlier;
    if (truncated_lsn >= 0 && event->lsn < truncated_lsn)
        return 0;

    int64_t newest_us = event->time_us;
    if (history->count > history->first && history->times[history->count - 1] > newest_us)
        newest_us = history->times[history->count - 1];
    int64_t horizon_us = (newest_us < it.commit_us ? newest_us : it.commit_us) - rules->kept_us;
    int64_t expired = bank_history_before(history, horizon_us);
    if (event->time_us < horizon_us || expired > BANK_EXPIRED)
        return 0;
    entry *found = history_find(history, event->account_id, event->transaction_id);
    if (found != NULL && found->event.time_us < horizon_us)
        found = NULL;
    if (found == NULL ? it.updated : !it.updated || !corrects(event, &found->event))
        return 0;
    bool has_earlier = bank_history_previous(history, event, &earlier) && earlier.time_us >= horizon_us;
    int64_t since_us = has_earlier ? event->time_us - earlier.time_us : 0;
    /* msgspec may write these with an exponent or with fewer digits. */
    if ((since_us > 0 && since_us < 1000) || since_us > rules->kept_us)
        return 0;

    bank_event gone[BANK_EXPIRED];
    bank_history_expire(history, horizon_us, gone);
    for (int64_t i = 0; i < expired; i++)
        write_key(out + BANK_GONE + 32 * i, it.customer_id, &gone[i]);
    if (found == NULL)
        history_add(history, event);
    else /* not through `found`: compaction may have moved the events */
        bank_history_put(history, event);

    int64_t window_counts[BANK_WINDOWS];
    uint8_t *at = out + BANK_JSON;
    at = WRITE(at, "{\"customer_id\":");
    at = write_slice(at, it.customer);
    at = WRITE(at, ",\"account_id\":");
    at = write_slice(at, it.account);
    at = WRITE(at, ",\"transaction_id\":");
    at = write_slice(at, it.transaction);
    at = WRITE(at, ",\"event_time\":\"");
    at = write_slice(at, it.booked_at);
    at = WRITE(at, "\",\"currency\":\"");
    at = write_slice(at, it.currency);
    at = WRITE(at, "\",\"windows\":");
    at = history_windows(history, event->time_us, event->currency, at, window_counts);
    at = WRITE(at, ",\"seconds_since_previous\":");
    at = has_earlier ? write_seconds(at, since_us) : WRITE(at, "null");
    at = WRITE(at, ",\"source\":");
    at = write_slice(at, it.source);
    at = WRITE(at, "}");

    int64_t look = UNSEEN, size = bank_history_size(history);
    if (counts(event->status)) /* rules apply to every update here, because its status differs */
        look = is_concern(history, event, window_counts) ? CONCERNED : QUIET;
    write_key(out, it.customer_id, event);
    int64_t facts = (int64_t)write_facts(out + BANK_FACTS, &it);
    return (at - (out + BANK_JSON)) | facts << 16 | expired << 24 | look << 32 |
        (size < INT64_C(1) << 28 ? size : INT64_C(1) << 28) << 34;
}
