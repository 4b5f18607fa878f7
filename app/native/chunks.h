/* Declares how a history keeps account of the chunks that it is stored in. */
#ifndef BANK_CHUNKS_H
#define BANK_CHUNKS_H

#include "history.h"

/* Each is called after the change: an event was added; one was changed in its place, or removed; the first so many expired. */
void chunks_add(bank_history *history, const bank_event *event, bool is_newest);
void chunks_change(bank_history *history, const bank_event *event);
void chunks_remove(bank_history *history, const bank_event *event);
void chunks_expire(bank_history *history, uint32_t count);
void chunks_free(bank_history *history);

/* Stored keys are compared as bytes: the sign bit is turned round. */
static inline uint8_t *write_key_part(uint8_t *at, int64_t number) {
    uint64_t biased = (uint64_t)number + (UINT64_C(1) << 63);
    for (int shift = 56; shift >= 0; shift -= 8)
        *at++ = (uint8_t)(biased >> shift);
    return at;
}

static inline int64_t read_key_part(const uint8_t *at) {
    uint64_t biased = 0;
    for (int i = 0; i < 8; i++)
        biased = biased << 8 | at[i];
    return (int64_t)(biased - (UINT64_C(1) << 63));
}

#endif
