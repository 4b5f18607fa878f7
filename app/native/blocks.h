/* Declares what changes the blocks of a history. */
#ifndef BANK_BLOCKS_H
#define BANK_BLOCKS_H

#include "history.h"

static inline uint32_t length_of(const block *one) {
    return one->end - one->first;
}

static inline bool takes(const bank_selection *selection, const bank_event *event) {
    return selection->at_least_minor <= event->amount_minor && event->amount_minor <= selection->at_most_minor &&
        (event->credit ? selection->credit : selection->debit);
}

static inline bool is_before(const bank_event *left, const bank_event *right) {
    if (left->time_us != right->time_us)
        return left->time_us < right->time_us;
    if (left->account_id != right->account_id)
        return left->account_id < right->account_id;
    return left->transaction_id < right->transaction_id;
}

/* The last block that does not begin behind a key, or the first one. There must be a block. */
uint32_t block_of(const bank_history *history, const bank_event *key);

/* The first position of a block with an event that is not before a key. */
uint32_t position_in(const block *in, const bank_event *key);

void blocks_add(bank_history *history, const bank_event *event);
void blocks_remove(bank_history *history, whereabouts place);
/* Replaces the event at a place with another of the same key that gives the same windows. */
void blocks_change(bank_history *history, whereabouts place, const bank_event *event);
/* Removes all events. */
void blocks_clear(bank_history *history);
void blocks_free(bank_history *history);
/* The memory of a history in bytes. */
size_t blocks_bytes(const bank_history *history);

/* Of a value in a block, which a counted event of the block has. */
occurrence *occurrence_of(const block *in, int dimension, uint64_t value);

/* A stamp that no occurrence in the history has. */
uint32_t new_stamp(bank_history *history);

/* The totals of a currency in a block; NULL if it has none. */
const total *totals_of(const block *in, uint64_t currency);

/* The amounts of a currency by the position of a block; NULL if there are none. */
const total *lane_of(const bank_history *history, uint64_t currency);

/* The number of distinct values in the blocks after `behind` and before `end` that are not in the blocks from `behind` to theirs. */
uint32_t distinct_between(const bank_history *history, int dimension, uint32_t behind, uint32_t end);

#endif
