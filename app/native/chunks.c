/* Keeps a history in RocksDB in chunks of consecutive events.
 *
 * The entries of a customer are, by key: his number alone (8 bytes), if the first events of the first chunk have expired: how many, 4
 * bytes; and his number with the bound of a chunk (32 bytes): the chunk's events. The numbers of a key are big-endian, with the sign bit
 * turned round, so that keys sort like numbers. A bound is the key of an event: every event of the chunk is at or behind it, and before
 * the bound of the next chunk.
 *
 * A chunk that an event joins is written anew, so chunks are small; a long history has larger chunks, because their number counts too. */
#include "chunks.h"

#include <stdlib.h>

#include "blocks.h"
#include "memory.h"
#include "text.h"

enum { VERSION = 1, LARGEST = 256, EVENTS_A_PLACE = 64 };

/* First byte of an event: the status, and what follows. */
enum { STATUS = 7, CREDIT = 8, HAS_COUNTERPARTY = 16, HAS_COUNTRY = 32, HAS_LSN = 64, HAS_FIRED = 128 };
/* Second byte: what is as in the event before. */
enum { SAME_CURRENCY = 1, SAME_COUNTRY = 2, SAME_ACCOUNT = 4, SAME_PARTITION = 8, ALL_SAME = 15 };
/* An event's longest form without texts that are no words, and what an entry has beside its value. */
enum { EVENT_BYTES = 96, ENTRY_BYTES = 40 };

/* Directory */

static uint32_t capacity(const bank_history *history) {
    uint32_t of_length = history->rules->chunk_events + history->count / EVENTS_A_PLACE;
    return of_length < LARGEST ? of_length : LARGEST;
}

static bool reaches(const chunk *one, const bank_event *event) {
    if (one->time_us != event->time_us)
        return one->time_us < event->time_us;
    if (one->account_id != event->account_id)
        return one->account_id < event->account_id;
    return one->transaction_id <= event->transaction_id;
}

/* The number of the chunk that an event belongs to. */
static uint32_t chunk_of(const bank_history *history, const bank_event *event) {
    const chunk *chunks = history->chunks;
    uint32_t low = 0, high = history->chunk_count; /* the chunks before `low` reach it, those from `high` on do not */
    if (high > 1 && reaches(&chunks[high - 1], event))
        return high - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (reaches(&chunks[middle], event))
            low = middle + 1;
        else
            high = middle;
    }
    return low ? low - 1 : 0;
}

/* The chunk must be written. */
static void touch(bank_history *history, uint32_t number) {
    chunk *one = &history->chunks[number];
    if (one->is_dirty)
        return;
    one->is_dirty = true;
    if (history->dirty_count++ == 0 || number < history->dirty_from)
        history->dirty_from = number;
}

static void insert(bank_history *history, uint32_t number, const bank_event *bound, uint32_t count) {
    history->chunks = grown(history->chunks, &history->chunk_room, history->chunk_count, sizeof *history->chunks);
    chunk *at = history->chunks + number;
    memmove(at + 1, at, (history->chunk_count++ - number) * sizeof *at);
    *at = (chunk){bound->time_us, bound->account_id, bound->transaction_id, count, 0, false, false};
    if (history->dirty_count && history->dirty_from >= number)
        history->dirty_from++;
    touch(history, number);
}

/* The store is to delete a chunk. */
static void forget(bank_history *history, const chunk *one) {
    if (!one->is_stored)
        return;
    history->dropped =
        grown(history->dropped, &history->dropped_room, history->dropped_count, sizeof *history->dropped);
    history->dropped[history->dropped_count++] = *one;
}

static void drop(bank_history *history, uint32_t number) {
    chunk *at = history->chunks + number;
    forget(history, at);
    history->dirty_count -= at->is_dirty;
    if (history->dirty_from > number)
        history->dirty_from--;
    memmove(at, at + 1, (--history->chunk_count - number) * sizeof *at);
}

/* Where a chunk's first event is. */
static whereabouts start_of(const bank_history *history, const chunk *one) {
    bank_event bound = {.time_us = one->time_us, .account_id = one->account_id, .transaction_id = one->transaction_id};
    return history_place(history, &bound);
}

void chunks_add(bank_history *history, const bank_event *event, bool is_newest) {
    uint32_t most = capacity(history);
    if (history->chunk_count == 0) {
        insert(history, 0, event, 1);
        return;
    }
    uint32_t number = chunk_of(history, event);
    chunk *one = &history->chunks[number];
    if (is_newest && one->count >= most) {
        insert(history, number + 1, event, 1);
        return;
    }
    if (!reaches(one, event)) { /* it is before all chunks */
        forget(history, one);
        *one = (chunk){event->time_us, event->account_id, event->transaction_id, one->count, 0, false, one->is_dirty};
    }
    one->count++;
    touch(history, number);
    if (one->count > 2 * most) {
        uint32_t half = one->count / 2, behind = one->count - half;
        whereabouts place = start_of(history, one);
        const bank_event *bound = history_next(history, &place);
        for (uint32_t i = 0; i < half; i++)
            bound = history_next(history, &place);
        one->count = half;
        insert(history, number + 1, bound, behind);
    }
}

void chunks_change(bank_history *history, const bank_event *event) {
    touch(history, chunk_of(history, event));
}

void chunks_remove(bank_history *history, const bank_event *event) {
    uint32_t number = chunk_of(history, event);
    chunk *one = &history->chunks[number];
    touch(history, number);
    if (--one->count == 0)
        drop(history, number);
}

void chunks_expire(bank_history *history, uint32_t count) {
    uint32_t number = 0;
    while (number < history->chunk_count && history->chunks[number].count <= count)
        count -= history->chunks[number++].count;
    for (uint32_t i = 0; i < number; i++)
        drop(history, 0);
    if (count) {
        history->chunks->count -= count;
        history->chunks->expired += count;
    }
}

void chunks_free(bank_history *history) {
    free(history->chunks);
    free(history->dropped);
}

/* Numbers */

static uint8_t *write_varint(uint8_t *at, uint64_t number) {
    for (; number > 127; number >>= 7)
        *at++ = (uint8_t)(number | 128);
    *at++ = (uint8_t)number;
    return at;
}

/* The difference of two numbers, small ones of either sign in few bytes. */
static uint8_t *write_step(uint8_t *at, int64_t from, int64_t to) {
    uint64_t step = (uint64_t)to - (uint64_t)from;
    return write_varint(at, step << 1 ^ (uint64_t)-(int64_t)(step >> 63));
}

static bool varint(cursor *in, uint64_t *number) {
    *number = 0;
    for (int shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        uint8_t byte = *in->at++;
        *number |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static bool step(cursor *in, int64_t from, int64_t *to) {
    uint64_t written;
    if (!varint(in, &written))
        return false;
    *to = (int64_t)((uint64_t)from + (written >> 1 ^ -(written & 1)));
    return true;
}

static uint8_t *write_text(uint8_t *at, slice text) {
    return write_slice(write_varint(at, text.length), text);
}

static bool counted_text(cursor *in, slice *text) {
    uint64_t length;
    if (!varint(in, &length) || length > (uint64_t)(in->end - in->at))
        return false;
    *text = (slice){in->at, (size_t)length};
    in->at += length;
    return true;
}

/* Events */

static slice slice_of(text it) {
    return (slice){it.bytes, it.length};
}

static slice fired_of(const bank_history *history, const bank_event *event) {
    return event->fired ? slice_of(history->texts[event->fired - 1]) : (slice){NULL, 0};
}

static uint8_t *
write_event(const bank_history *history, uint8_t *at, const bank_event *before, const bank_event *event) {
    *at++ = (uint8_t)(event->status | (event->credit ? CREDIT : 0) | (event->counterparty ? HAS_COUNTERPARTY : 0) |
                      (event->country ? HAS_COUNTRY : 0) | (event->lsn >= 0 ? HAS_LSN : 0) |
                      (event->fired ? HAS_FIRED : 0));
    uint8_t same = *at++ = (uint8_t)((event->currency == before->currency ? SAME_CURRENCY : 0) |
                                     (event->country == before->country ? SAME_COUNTRY : 0) |
                                     (event->account_id == before->account_id ? SAME_ACCOUNT : 0) |
                                     (event->partition == before->partition ? SAME_PARTITION : 0));
    at = write_step(at, before->time_us, event->time_us);
    if (!(same & SAME_ACCOUNT))
        at = write_step(at, before->account_id, event->account_id);
    at = write_step(at, before->transaction_id, event->transaction_id);
    at = write_varint(at, (uint64_t)event->amount_minor);
    if (!(same & SAME_CURRENCY))
        at = write_text(at, slice_of(text_of(history, &event->currency)));
    if (event->country && !(same & SAME_COUNTRY))
        at = write_text(at, slice_of(text_of(history, &event->country)));
    if (event->counterparty)
        at = write_bytes(at, &event->counterparty, sizeof event->counterparty);
    if (event->lsn >= 0)
        at = write_step(at, before->lsn, event->lsn);
    if (!(same & SAME_PARTITION))
        at = write_varint(at, (uint64_t)event->partition);
    at = write_step(at, before->offset, event->offset);
    return event->fired ? write_text(at, fired_of(history, event)) : at;
}

static bool read_event(bank_history *history, cursor *in, const bank_event *before, bank_event *event) {
    slice text;
    uint64_t number;
    if (in->end - in->at < 2)
        return false;
    uint8_t has = *in->at++, same = *in->at++;
    *event = (bank_event){.status = has & STATUS, .credit = (has & CREDIT) != 0, .lsn = -1};
    event->currency = same & SAME_CURRENCY ? before->currency : 0;
    event->account_id = before->account_id;
    event->partition = before->partition;
    if (event->status > REMOVED || same & ~ALL_SAME || !step(in, before->time_us, &event->time_us) ||
        (!(same & SAME_ACCOUNT) && !step(in, before->account_id, &event->account_id)) ||
        !step(in, before->transaction_id, &event->transaction_id) || !varint(in, &number) || number > INT64_MAX)
        return false;
    event->amount_minor = (int64_t)number;
    if (!(same & SAME_CURRENCY)) {
        if (!counted_text(in, &text) || !is_utf8(text.start, text.length))
            return false;
        event->currency = bank_history_word(history, text.start, text.length);
    }
    if (same & SAME_COUNTRY)
        event->country = before->country;
    else if (has & HAS_COUNTRY) {
        if (!counted_text(in, &text) || !is_utf8(text.start, text.length))
            return false;
        event->country = bank_history_word(history, text.start, text.length);
    }
    if (has & HAS_COUNTERPARTY) {
        if (in->end - in->at < 8)
            return false;
        memcpy(&event->counterparty, in->at, 8);
        in->at += 8;
    }
    if (has & HAS_LSN && (!step(in, before->lsn, &event->lsn) || event->lsn < 0))
        return false;
    if (!(same & SAME_PARTITION)) {
        if (!varint(in, &number) || number > INT32_MAX)
            return false;
        event->partition = (int32_t)number;
    }
    if (!step(in, before->offset, &event->offset))
        return false;
    if (has & HAS_FIRED) {
        if (!counted_text(in, &text))
            return false;
        event->fired = bank_history_intern(history, text.start, text.length);
    }
    return true;
}

int bank_history_load(
    bank_history *history, const uint8_t *key, const uint8_t *value, size_t value_length, uint32_t expired) {
    cursor stream = {value, value + value_length}, *in = &stream;
    bank_event before = {0}, event;
    bank_event bound = {
        .time_us = read_key_part(key + 8),
        .account_id = read_key_part(key + 16),
        .transaction_id = read_key_part(key + 24)};
    const bank_event *newest = history_newest(history);
    uint64_t count;
    if (newest != NULL && !is_before(newest, &bound)) /* it belongs to this chunk, or the chunks are not in order */
        return 0;
    if (value_length == 0 || *in->at++ != VERSION || !varint(in, &count) || expired >= count || count > UINT32_MAX / 4)
        return 0;
    for (uint64_t i = 0; i < count; i++, before = event) {
        if (!read_event(history, in, &before, &event) || (i == 0 && is_before(&event, &bound)))
            return 0;
        if (i >= expired && !history_append(history, &event))
            return 0;
    }
    if (in->at != in->end)
        return 0;
    history->chunks = grown(history->chunks, &history->chunk_room, history->chunk_count, sizeof *history->chunks);
    history->chunks[history->chunk_count++] =
        (chunk){bound.time_us, bound.account_id, bound.transaction_id, (uint32_t)count - expired, expired, true, false};
    if (history->chunk_count == 1)
        history->stored_expired = expired;
    return 1;
}

/* Changes */

static uint8_t *write_lengths(uint8_t *at, uint32_t key_length, uint32_t value_length) {
    at = write_bytes(at, &key_length, sizeof key_length);
    return write_bytes(at, &value_length, sizeof value_length);
}

static uint8_t *write_chunk_key(uint8_t *at, int64_t customer_id, const chunk *one) {
    at = write_key_part(at, customer_id);
    at = write_key_part(at, one->time_us);
    at = write_key_part(at, one->account_id);
    return write_key_part(at, one->transaction_id);
}

/* The bytes of the texts of a chunk. */
static size_t text_bytes(const bank_history *history, const chunk *one) {
    size_t bytes = 0;
    whereabouts place = start_of(history, one);
    for (uint32_t i = 0; i < one->count; i++) {
        const bank_event *event = history_next(history, &place);
        bytes += text_of(history, &event->currency).length + text_of(history, &event->country).length +
            fired_of(history, event).length;
    }
    return bytes;
}

static size_t room_for(const bank_history *history) {
    size_t needed = (size_t)(history->dropped_count + 1) * ENTRY_BYTES;
    uint32_t left = history->dirty_count;
    for (uint32_t number = history->dirty_from; left; number++)
        if (history->chunks[number].is_dirty) {
            needed += ENTRY_BYTES + 16 + history->chunks[number].count * EVENT_BYTES;
            needed += history->text_count ? text_bytes(history, &history->chunks[number]) : 0;
            left--;
        }
    return needed;
}

int64_t bank_history_changes(bank_history *history, int64_t customer_id, uint8_t *out, size_t room) {
    size_t needed = room_for(history);
    if (needed > room)
        return -(int64_t)needed;
    uint8_t *at = out;
    for (uint32_t i = 0; i < history->dropped_count; i++)
        at = write_chunk_key(write_lengths(at, 32, UINT32_MAX), customer_id, &history->dropped[i]);
    history->dropped_count = 0;
    for (uint32_t number = history->dirty_from; history->dirty_count; number++) {
        chunk *one = &history->chunks[number];
        if (!one->is_dirty)
            continue;
        history->dirty_count--;
        uint8_t *lengths = at;
        uint8_t *value = at = write_chunk_key(at + 8, customer_id, one);
        *at++ = VERSION;
        at = write_varint(at, one->count);
        bank_event nothing = {0};
        const bank_event *before = &nothing;
        whereabouts place = start_of(history, one);
        for (uint32_t i = 0; i < one->count; i++) {
            const bank_event *event = history_next(history, &place);
            at = write_event(history, at, before, event);
            before = event;
        }
        write_lengths(lengths, 32, (uint32_t)(at - value));
        one->is_dirty = false;
        one->is_stored = true;
        one->expired = 0;
    }
    uint32_t expired = history->chunk_count ? history->chunks->expired : 0;
    if (expired != history->stored_expired) {
        at = write_key_part(write_lengths(at, 8, expired ? 4 : UINT32_MAX), customer_id);
        if (expired)
            at = write_bytes(at, &expired, sizeof expired);
        history->stored_expired = expired;
    }
    return at - out;
}
