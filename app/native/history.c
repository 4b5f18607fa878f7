/* Keeps the events of a customer: what is asked about single events, and each change to the blocks and to the stored chunks. */
#include "history.h"

#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "chunks.h"
#include "memory.h"
#include "text.h"

/* Places */

whereabouts history_place(const bank_history *history, const bank_event *key) {
    whereabouts place = {0, 0};
    if (history->block_count == 0)
        return place;
    place.block = block_of(history, key);
    place.at = position_in(&history->blocks[place.block], key);
    if (place.at == history->blocks[place.block].end && place.block + 1 < history->block_count) {
        place.block++;
        place.at = history->blocks[place.block].first;
    }
    return place;
}

const bank_event *history_next(const bank_history *history, whereabouts *place) {
    while (place->block < history->block_count) {
        const block *in = &history->blocks[place->block];
        if (place->at < in->end)
            return &in->events[place->at++];
        if (++place->block < history->block_count)
            place->at = history->blocks[place->block].first;
    }
    return NULL;
}

const bank_event *history_back(const bank_history *history, whereabouts *place) {
    if (history->block_count == 0)
        return NULL;
    while (place->at == history->blocks[place->block].first) {
        if (place->block == 0)
            return NULL;
        place->block--;
        place->at = history->blocks[place->block].end;
    }
    return &history->blocks[place->block].events[--place->at];
}

const bank_event *history_newest(const bank_history *history) {
    if (history->block_count == 0)
        return NULL;
    const block *last = &history->blocks[history->block_count - 1];
    return &last->events[last->end - 1];
}

static whereabouts oldest(const bank_history *history) {
    return (whereabouts){0, history->block_count ? history->blocks->first : 0};
}

/* Finds the event of an account and a transaction. */
static bool find(const bank_history *history, int64_t account_id, int64_t transaction_id, whereabouts *place) {
    if (history->block_count == 0)
        return false;
    if (history->is_indexed) {
        int64_t time_us = table_number(
            shard_of(history->identities, (uint64_t)account_id, (uint64_t)transaction_id), (uint64_t)account_id,
            (uint64_t)transaction_id);
        bank_event key = {.time_us = time_us, .account_id = account_id, .transaction_id = transaction_id};
        *place = history_place(history, &key);
        return time_us != ABSENT;
    }
    const block *in = history->blocks;
    for (uint32_t at = in->end; at > in->first; at--) /* corrections are mostly of recent ones */
        if (in->events[at - 1].transaction_id == transaction_id && in->events[at - 1].account_id == account_id) {
            *place = (whereabouts){0, at - 1};
            return true;
        }
    return false;
}

const bank_event *history_find(const bank_history *history, int64_t account_id, int64_t transaction_id) {
    whereabouts place;
    return find(history, account_id, transaction_id, &place) ? &history->blocks[place.block].events[place.at] : NULL;
}

/* Changes */

bool weighs_the_same(const bank_event *left, const bank_event *right) {
    uint8_t left_status = counts(left->status) ? POSTED : left->status;
    uint8_t right_status = counts(right->status) ? POSTED : right->status;
    return left->amount_minor == right->amount_minor && left->currency == right->currency &&
        left->credit == right->credit && left_status == right_status && left->counterparty == right->counterparty &&
        left->country == right->country;
}

bool history_append(bank_history *history, const bank_event *event) {
    const bank_event *newest = history_newest(history);
    if (newest != NULL && !is_before(newest, event))
        return false;
    blocks_add(history, event);
    return true;
}

void history_add(bank_history *history, const bank_event *event) {
    const bank_event *newest = history_newest(history);
    bool is_newest = newest == NULL || is_before(newest, event);
    blocks_add(history, event);
    chunks_add(history, event, is_newest);
}

static void take_out(bank_history *history, whereabouts place) {
    bank_event event = history->blocks[place.block].events[place.at];
    blocks_remove(history, place);
    chunks_remove(history, &event);
}

void bank_history_put(bank_history *history, const bank_event *event) {
    whereabouts place;
    if (find(history, event->account_id, event->transaction_id, &place)) {
        const bank_event *known = &history->blocks[place.block].events[place.at];
        if (known->time_us == event->time_us && weighs_the_same(known, event)) {
            blocks_change(history, place, event);
            chunks_change(history, event);
            return;
        }
        take_out(history, place);
    }
    history_add(history, event);
}

int bank_history_remove(bank_history *history, int64_t account_id, int64_t transaction_id) {
    whereabouts place;
    if (!find(history, account_id, transaction_id, &place))
        return 0;
    take_out(history, place);
    return 1;
}

int bank_history_forget(bank_history *history, int64_t account_id, int64_t transaction_id, bank_event *marker) {
    const bank_event *known = history_find(history, account_id, transaction_id);
    if (known == NULL || known->fired == 0)
        return bank_history_remove(history, account_id, transaction_id);
    *marker = *known;
    marker->status = REMOVED;
    marker->counterparty = marker->country = 0;
    bank_history_put(history, marker);
    return 2;
}

int64_t bank_history_before(const bank_history *history, int64_t horizon_us) {
    const bank_event key = {.time_us = horizon_us, .account_id = INT64_MIN, .transaction_id = INT64_MIN};
    if (history->block_count == 0 || history->blocks->events[history->blocks->first].time_us >= horizon_us)
        return 0;
    whereabouts place = history_place(history, &key);
    int64_t found = place.at - history->blocks[place.block].first;
    for (uint32_t position = 0; position < place.block; position++)
        found += length_of(&history->blocks[position]);
    return found;
}

void bank_history_expire(bank_history *history, int64_t horizon_us, bank_event *expired) {
    uint32_t count = (uint32_t)bank_history_before(history, horizon_us);
    history->floor_us = horizon_us - 1;
    if (count && count == history->count && expired == NULL) {
        blocks_clear(history);
        chunks_expire(history, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        whereabouts first = oldest(history);
        if (expired != NULL)
            *expired++ = history->blocks->events[first.at];
        blocks_remove(history, first);
    }
    if (count)
        chunks_expire(history, count);
}

void bank_history_seek(bank_history *history, int64_t time_us) {
    history->end_us = time_us;
}

/* Questions */

int64_t bank_history_after(const bank_history *history, int64_t length_us) {
    int64_t after_us = history->end_us - length_us;
    return after_us > history->floor_us ? after_us : history->floor_us;
}

int bank_history_previous(const bank_history *history, const bank_event *key, bank_event *event) {
    whereabouts place = history_place(history, key);
    const bank_event *found;
    while ((found = history_back(history, &place)) != NULL)
        if (found->status != REMOVED) {
            *event = *found;
            return 1;
        }
    return 0;
}

int64_t bank_history_events(const bank_history *history, int64_t place, int64_t limit, bank_event *events) {
    whereabouts from = oldest(history);
    const bank_event *event;
    int64_t found = 0;
    while (from.block < history->block_count && place >= length_of(&history->blocks[from.block])) {
        place -= length_of(&history->blocks[from.block]);
        if (++from.block < history->block_count)
            from.at = history->blocks[from.block].first;
    }
    from.at += (uint32_t)place;
    while (found < limit && (event = history_next(history, &from)) != NULL)
        events[found++] = *event;
    return found;
}

int bank_history_newest(const bank_history *history, bank_event *event) {
    const bank_event *found = history_newest(history);
    if (found == NULL)
        return 0;
    *event = *found;
    return 1;
}

int bank_history_find(const bank_history *history, int64_t account_id, int64_t transaction_id, bank_event *event) {
    const bank_event *found = history_find(history, account_id, transaction_id);
    if (found == NULL)
        return 0;
    *event = *found;
    return 1;
}

int64_t bank_history_length(const bank_history *history) {
    return history->count;
}

int64_t bank_history_floor(const bank_history *history) {
    return history->floor_us;
}

/* Texts */

#define INTERNED (UINT64_C(0xFF) << 56)

uint32_t bank_history_intern(bank_history *history, const uint8_t *bytes, size_t length) {
    uint64_t digest, nth = length;
    int64_t known;
    blake2b_8(bytes, length, (uint8_t *)&digest);
    /* Another text of this digest and length is where it would be; its place is the next one. */
    for (; (known = table_number(&history->numbers, digest, nth)) != ABSENT; nth += UINT64_C(1) << 40) {
        const text *other = &history->texts[known - 1];
        if (other->length == length && memcmp(other->bytes, bytes, length) == 0)
            return (uint32_t)known;
    }
    text made = {sized(NULL, length + 1, 1), length};
    memcpy(made.bytes, bytes, length);
    history->texts = grown(history->texts, &history->text_room, history->text_count, sizeof *history->texts);
    history->texts[history->text_count++] = made;
    history->text_bytes += length + sizeof made;
    table_exchange(&history->numbers, digest, nth, history->text_count);
    return history->text_count;
}

const uint8_t *bank_history_text(const bank_history *history, uint32_t number, size_t *length) {
    *length = history->texts[number - 1].length;
    return history->texts[number - 1].bytes;
}

uint64_t bank_history_word(bank_history *history, const uint8_t *bytes, size_t length) {
    uint64_t word = 0;
    if (length > sizeof word || memchr(bytes, 0, length) != NULL)
        return INTERNED | bank_history_intern(history, bytes, length);
    memcpy(&word, bytes, length);
    return word;
}

text text_of(const bank_history *history, const uint64_t *word) {
    if (*word >= INTERNED)
        return history->texts[(uint32_t)*word - 1];
    text found = {(uint8_t *)word, sizeof *word};
    while (found.length > 0 && found.bytes[found.length - 1] == 0)
        found.length--;
    return found;
}

/* Life */

bank_history *bank_history_new(const bank_rules *rules) {
    bank_history *made = sized(NULL, 1, sizeof *made);
    memset(made, 0, sizeof *made);
    made->rules = rules;
    made->selections = rules->selections;
    made->floor_us = INT64_MIN;
    return made;
}

int64_t bank_history_bytes(const bank_history *history) {
    return (int64_t)(sizeof *history + blocks_bytes(history) + history->chunk_room * sizeof(chunk) +
                     history->text_bytes + table_bytes(&history->numbers));
}

void bank_history_free(bank_history *history) {
    if (history == NULL)
        return;
    blocks_free(history);
    chunks_free(history);
    for (uint32_t i = 0; i < history->text_count; i++)
        free(history->texts[i].bytes);
    free(history->texts);
    table_free(&history->numbers);
    free(history);
}
