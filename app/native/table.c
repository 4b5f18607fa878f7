/* Implements the hash table. At least half of its places are free. */
#include "table.h"

#include <stdlib.h>

#include "memory.h"

static uint32_t home(const table *in, uint64_t first, uint64_t second) {
    return mixed_words(first, second) & in->mask;
}

/* The place of two words, or the free place where they would be put. */
static uint32_t probe(const table *in, uint64_t first, uint64_t second) {
    uint32_t at = home(in, first, second);
    while (in->places[at].number != ABSENT && (in->places[at].first != first || in->places[at].second != second))
        at = (at + 1) & in->mask;
    return at;
}

static void make_room(table *in) {
    if (in->places != NULL && in->used * 2 <= in->mask)
        return;
    table wider = {NULL, in->places == NULL ? 7 : in->mask * 2 + 1, in->used};
    wider.places = sized(NULL, (size_t)wider.mask + 1, sizeof(place));
    for (uint32_t i = 0; i <= wider.mask; i++)
        wider.places[i].number = ABSENT;
    for (uint32_t i = 0; in->places != NULL && i <= in->mask; i++)
        if (in->places[i].number != ABSENT)
            wider.places[probe(&wider, in->places[i].first, in->places[i].second)] = in->places[i];
    free(in->places);
    *in = wider;
}

int64_t table_number(const table *in, uint64_t first, uint64_t second) {
    return in->places == NULL ? ABSENT : in->places[probe(in, first, second)].number;
}

int64_t table_exchange(table *in, uint64_t first, uint64_t second, int64_t number) {
    make_room(in);
    place *at = &in->places[probe(in, first, second)];
    int64_t before = at->number;
    in->used += before == ABSENT;
    *at = (place){first, second, number};
    return before;
}

void table_forget(table *in, uint64_t first, uint64_t second) {
    if (in->places == NULL)
        return;
    uint32_t free_at = probe(in, first, second);
    if (in->places[free_at].number == ABSENT)
        return;
    in->used--;
    in->places[free_at].number = ABSENT;
    for (uint32_t at = (free_at + 1) & in->mask; in->places[at].number != ABSENT; at = (at + 1) & in->mask) {
        uint32_t from = home(in, in->places[at].first, in->places[at].second);
        if (((at - from) & in->mask) >=
            ((at - free_at) & in->mask)) { /* it was put behind the place that is free now */
            in->places[free_at] = in->places[at];
            in->places[at].number = ABSENT;
            free_at = at;
        }
    }
}

void table_free(table *in) {
    free(in->places);
    *in = (table){NULL, 0, 0};
}

size_t table_bytes(const table *in) {
    return in->places == NULL ? 0 : ((size_t)in->mask + 1) * sizeof(place);
}

void shards_free(table *shards) {
    for (int i = 0; i < SHARDS; i++)
        table_free(shards + i);
}

size_t shards_bytes(const table *shards) {
    size_t bytes = 0;
    for (int i = 0; i < SHARDS; i++)
        bytes += table_bytes(shards + i);
    return bytes;
}
