/* Declares the internals of a history, so that velocity.c can screen a transaction without a function call for each lookup. */
#ifndef BANK_HISTORY_H
#define BANK_HISTORY_H

#include "bank.h"

#include <stdbool.h>

/* As app/domain/events.py numbers them. */
enum { PENDING, POSTED, REVERSED, DECLINED, OTHER, REMOVED };

static inline int counts(uint8_t status) {
    return status == PENDING || status == POSTED || status == OTHER;
}

#define NOWHERE UINT32_MAX

typedef struct {
    bank_event event;
    /* Once the cursor has passed it: how many counted and declined ones came before it, and where its values were seen before. */
    uint32_t counted, declined, same_counterparty, same_country;
} entry;

/* Numbers by two words, open addressing. */
typedef struct {
    uint64_t first, second;
    int64_t number; /* ABSENT: a free place */
} place;

typedef struct {
    place *places;
    uint32_t mask, used; /* 0, 0: nothing is allocated */
} table;

/* How many different values a window has: those whose last occurrence is in it. `last` has their positions in order. */
typedef struct {
    table positions;
    uint32_t *last;
    uint32_t count, room;
} distinct;

/* Amounts in order. Row r has the sum up to it, itself, its event, and the row of the peak that it came to lie on; row 0 stands before
 * the first. `peaks` are the rows of the amounts that no later one reaches. The first of them inside a window is its maximum; what
 * an amount lies on is what brings back, when it is taken away, the peaks that it covered. */
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
    uint8_t *bytes;
    size_t length;
} text;

typedef struct {
    uint64_t currency;
    track *tracks; /* one a selection */
} currency_tracks;

struct bank_history {
    const bank_rules *rules;
    int32_t selections; /* those of the rules, which may be gone before it is freed */
    /* In the order of their keys, the times apart: they are what is searched. Those before `first` have expired. Fewer than 2^31. */
    int64_t *times;
    entry *entries;
    uint32_t first, count, time_room, entry_room;
    table identities; /* (account, transaction): time */
    int64_t floor_us;
    /* The cursor: what is before `reached` is in the tracks. */
    uint32_t reached;
    int64_t end_us;
    uint32_t counted, declined;
    uint32_t starts[BANK_WINDOWS]; /* where windows began last: where to look first */
    distinct counterparties, countries;
    currency_tracks *currencies;
    uint32_t currency_count, currency_room;
    /* Texts by number, and their numbers by digest and length. */
    text *texts;
    table numbers;
    uint32_t text_count, text_room;
    size_t text_bytes;
};

/* Memory, or the end of the process. */
void *sized(void *memory, size_t count, size_t item);

/* What a word stands for; one of at most eight bytes is at `word` itself. */
text text_of(const bank_history *history, const uint64_t *word);

/* Whether two events of one time give the same windows. */
bool weighs_the_same(const bank_event *left, const bank_event *right);

entry *history_find(const bank_history *history, int64_t account_id, int64_t transaction_id);

/* Add an event whose identity is not there. */
void history_add(bank_history *history, const bank_event *event);

/* Whether there is an amount of a selection in the time up to the cursor. */
int history_has_amount(const bank_history *history, int32_t selection, uint64_t currency, int64_t length_us);

/* What bank_history_windows does, with the count of each window. Answers the end of what it wrote. */
uint8_t *history_windows(
    bank_history *history, int64_t time_us, uint64_t currency, uint8_t *at, int64_t window_counts[BANK_WINDOWS]);

#endif
