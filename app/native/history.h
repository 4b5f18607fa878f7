/* Declares the internals of a history.
 *
 * A history is a list of blocks of some hundred consecutive events. What is in a window is computed from the events of the two blocks
 * in which the window begins and ends, and from totals of the blocks between them. So a transaction costs the same in a history of a
 * million events nearly as in one of a few thousand, wherever in it its time is. A history of one block, as nearly all are, has no totals. */
#ifndef BANK_HISTORY_H
#define BANK_HISTORY_H

#include <stdbool.h>

#include "bank.h"
#include "table.h"

/* The status codes of app/domain/events.py. */
enum { PENDING, POSTED, REVERSED, DECLINED, OTHER, REMOVED };

static inline bool counts(uint8_t status) {
    return status == PENDING || status == POSTED || status == OTHER;
}

/* The fields whose distinct values windows count. */
enum { COUNTERPARTY, COUNTRY, DIMENSIONS };

static inline uint64_t value_of(const bank_event *event, int dimension) {
    return dimension == COUNTERPARTY ? event->counterparty : event->country;
}

#define NOWHERE UINT32_MAX

/* A value in a block: the number of counted events that have it, and the ids of the nearest blocks before and after this one that have
 * it; NOWHERE: none. */
typedef struct {
    uint64_t value; /* 0: the place is free */
    uint32_t count, before, after;
    uint32_t stamp; /* of the last window that has it */
} occurrence;

/* A hash table of them. */
typedef struct {
    occurrence *places;
    uint32_t mask, used; /* both 0: nothing is allocated */
} occurrences;

/* The amounts of a currency in a block that a selection selects. */
typedef struct {
    __int128 sum;
    int64_t most;
    uint32_t count;
} total;

typedef struct {
    uint64_t currency;
    total *of; /* one for each selection */
} currency_totals;

typedef struct {
    bank_event *events; /* those from `first` to before `end`, in the order of their keys */
    uint32_t first, end, room;
    uint32_t id; /* stays the same when other blocks come and go */
    /* Only in a history of several blocks: */
    occurrences values[DIMENSIONS];
    currency_totals *currencies;
    uint32_t currency_count, currency_room;
} block;

/* Of all blocks, one behind the other, because windows add up those of many: the time of the first event, and how many events count and
 * how many are declined; and the amounts of a currency. */
typedef struct {
    int64_t first_us;
    uint32_t counted, declined;
} tally;

typedef struct {
    uint64_t currency;
    total *totals;
} lane;

/* `cells` has a column for each block k, and in it a cell for each block after it: how many values of that block come in k or before it,
 * but not between. `first` has for each block how many of its values come in no block before. So the distinct values in consecutive blocks
 * are counted with one column. */
typedef struct {
    uint16_t *cells;
    uint16_t *first;
    uint32_t room; /* the number of columns, and of cells of each, that there is memory for */
    uint32_t gone; /* so many columns, and cells of each, are of blocks that were the first and have gone */
    table *last;   /* shards: from a value to the id of the last block that has it */
} succession;

/* A chunk of the stored history (chunks.c): its bound; how many events it has; how many events before them it has in the store although
 * they have expired; whether it is in the store, and whether it must be written. */
typedef struct {
    int64_t time_us, account_id, transaction_id;
    uint32_t count, expired;
    bool is_stored, is_dirty;
} chunk;

typedef struct {
    uint8_t *bytes;
    size_t length;
} text;

struct bank_history {
    const bank_rules *rules;
    int32_t selections; /* a copy, because the rules may be freed before the history */
    int64_t floor_us, end_us;
    uint32_t count; /* of events in all blocks */
    block *blocks;
    uint32_t block_count, block_room;
    uint32_t *positions; /* of the blocks, by id */
    uint32_t id_count, id_room;
    uint32_t *free_ids;
    uint32_t free_count, free_room;
    uint32_t stamp;  /* of the last window */
    bool is_indexed; /* the following, and what only several blocks have, is made */
    tally *tallies;
    lane *lanes;
    uint32_t lane_count, lane_room, position_room;
    succession successions[DIMENSIONS];
    table *identities; /* shards: from (account, transaction) to the event's time */
    /* Texts that are no words, by number from 1. */
    text *texts;
    table numbers;
    uint32_t text_count, text_room;
    size_t text_bytes;
    /* In order; together they have all events. */
    chunk *chunks;
    uint32_t chunk_count, chunk_room;
    chunk *dropped; /* those to delete from the store */
    uint32_t dropped_count, dropped_room;
    uint32_t dirty_count, dirty_from; /* so many must be written, none of them before that one */
    uint32_t stored_expired;          /* `expired` of the first chunk, as the store has it */
};

/* Where an event is: a block, and a position in its events. The end of the history is behind the events of the last block. */
typedef struct {
    uint32_t block, at;
} whereabouts;

/* The text of a word. That of a text of at most eight bytes is at `word` itself. */
text text_of(const bank_history *history, const uint64_t *word);

/* Whether two events of one time give the same windows. */
bool weighs_the_same(const bank_event *left, const bank_event *right);

/* The event of an account and a transaction; NULL if there is none. */
const bank_event *history_find(const bank_history *history, int64_t account_id, int64_t transaction_id);

/* Where the first event is whose key is not before this one. */
whereabouts history_place(const bank_history *history, const bank_event *key);

/* The event at a place, which moves behind it; NULL at the end. */
const bank_event *history_next(const bank_history *history, whereabouts *place);

/* The event before a place, which moves to it; NULL at the beginning. */
const bank_event *history_back(const bank_history *history, whereabouts *place);

/* The newest event; NULL if there is none. */
const bank_event *history_newest(const bank_history *history);

/* Adds an event that comes from the store. Returns false if its key is not after those of all others. */
bool history_append(bank_history *history, const bank_event *event);

/* Adds an event. The history must not have an event of the same account and transaction. */
void history_add(bank_history *history, const bank_event *event);

/* Returns whether a selection has an amount in the `length_us` up to `end_us`. */
bool history_has_amount(const bank_history *history, int32_t selection, uint64_t currency, int64_t length_us);

/* Does the same as bank_history_windows, and also stores the count of each window. Returns the end of the written JSON. */
uint8_t *history_windows(
    bank_history *history, int64_t time_us, uint64_t currency, uint8_t *at, int64_t window_counts[BANK_WINDOWS]);

#endif
