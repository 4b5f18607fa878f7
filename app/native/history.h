/* Declares the internals of a history, so that velocity.c can screen a transaction without a function call for each lookup. */
#ifndef BANK_HISTORY_H
#define BANK_HISTORY_H

#include <stdbool.h>

#include "bank.h"

/* The status codes of app/domain/events.py. */
enum { PENDING, POSTED, REVERSED, DECLINED, OTHER, REMOVED };

static inline int counts(uint8_t status) {
    return status == PENDING || status == POSTED || status == OTHER;
}

#define NOWHERE UINT32_MAX

typedef struct {
    bank_event event;
    /* Set when the cursor passes the event: the numbers of counted and declined events before it, and the positions of the previous
     * counted events with its counterparty and with its country (NOWHERE: none). */
    uint32_t counted, declined, same_counterparty, same_country;
} entry;

/* A hash table from two words to a number, with open addressing. */
typedef struct {
    uint64_t first, second;
    int64_t number; /* ABSENT: the place is free */
} place;

typedef struct {
    place *places;
    uint32_t mask, used; /* both 0: nothing is allocated */
} table;

/* Counts the distinct values in a window: those whose last occurrence is in it. `last` has the positions of the last occurrences in
 * ascending order. */
typedef struct {
    table positions;
    uint32_t *last;
    uint32_t count, room;
} distinct;

/* Amounts in order, as in `AmountAggregate` of app/domain/window_aggregates.py. A row has the sum up to and including its amount, the
 * amount, the position of its event, and in `below` the row of the last peak before it when it was added (0: none). Row 0 is a sentinel
 * before the first amount. `peaks` holds, in order, the rows of the amounts that are greater than every later amount: the first of them
 * inside a window is the maximum of the window. track_push drops the peaks that are not greater than the new amount; track_pop restores
 * them from `below`. */
typedef struct {
    __int128 sum;
    int64_t amount;
    uint32_t position, below;
} row;

typedef struct {
    row *rows;
    uint32_t *peaks;
    uint32_t count, room, peak_count, peak_room;
} track;

typedef struct {
    uint64_t currency;
    track *tracks; /* one for each selection */
} currency_tracks;

/* A chunk of the stored history (chunks.c): its bound, how many events it has, how many events before them it has in the store although
 * they have expired, whether it is in the store, and whether it must be written. */
typedef struct {
    int64_t time_us, account_id, transaction_id;
    uint32_t count, expired;
    bool is_stored, is_dirty;
} chunk;

struct bank_history {
    const bank_rules *rules;
    int32_t selections; /* a copy, because the rules may be freed before the history */
    /* Events in the order of their keys. Searches read the times, which are a separate array. Events before `first` have expired. Fewer
     * than 2^31 events. */
    int64_t *times;
    entry *entries;
    uint32_t first, count, time_room, entry_room;
    table identities; /* from (account, transaction) to the event's time */
    int64_t floor_us;
    /* The cursor: the tracks cover the events before position `reached`. */
    uint32_t reached;
    int64_t end_us;
    uint32_t counted, declined;
    uint32_t starts[BANK_WINDOWS]; /* the last start of each window: the next search begins there */
    distinct counterparties, countries;
    currency_tracks *currencies;
    uint32_t currency_count, currency_room;
    /* In order. They have the events from `first` on. */
    chunk *chunks;
    uint32_t chunk_count, chunk_room;
    chunk *dropped; /* those to delete from the store */
    uint32_t dropped_count, dropped_room;
    uint32_t stored_expired; /* `expired` of the first chunk, as the store has it */
};

entry *history_find(const bank_history *history, int64_t account_id, int64_t transaction_id);

/* Returns the first position from `low` on with a key that is not before this one. */
uint32_t history_place(const bank_history *history, const bank_event *key, uint32_t low);

/* Adds an event from the store, after all others. Returns false if its key is not after theirs, or its identity is known. */
bool history_append(bank_history *history, const bank_event *event);

/* Adds an event. The history must not have an event of the same account and transaction. */
void history_add(bank_history *history, const bank_event *event);

/* Returns whether a selection has an amount in the `length_us` up to the cursor. */
int history_has_amount(const bank_history *history, int32_t selection, uint64_t currency, int64_t length_us);

/* Does the same as bank_history_windows, and also stores the count of each window. Returns the end of the written JSON. */
uint8_t *history_windows(
    bank_history *history, int64_t time_us, uint64_t currency, uint8_t *at, int64_t window_counts[BANK_WINDOWS]);

#endif
