/* Declares a hash table from two words to a number, with open addressing. */
#ifndef BANK_TABLE_H
#define BANK_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define ABSENT INT64_MIN

typedef struct {
    uint64_t first, second;
    int64_t number; /* ABSENT: the place is free */
} place;

typedef struct {
    place *places;
    uint32_t mask, used; /* both 0: nothing is allocated */
} table;

static inline uint32_t mixed_words(uint64_t first, uint64_t second) {
    uint64_t mixed = first * UINT64_C(0x9E3779B97F4A7C15) ^ second * UINT64_C(0xC2B2AE3D27D4EB4F);
    mixed ^= mixed >> 32;
    mixed *= UINT64_C(0xD6E8FEB86659FD93);
    return (uint32_t)(mixed >> 32);
}

/* One of many tables for the same purpose, so that none becomes so large that it takes long to make room in it. */
#define SHARDS 64
static inline table *shard_of(table *shards, uint64_t first, uint64_t second) {
    return shards + (mixed_words(second, first) >> 26);
}

/* The number of two words; ABSENT if there is none. */
int64_t table_number(const table *in, uint64_t first, uint64_t second);
/* Sets the number, and returns the one before, or ABSENT. */
int64_t table_exchange(table *in, uint64_t first, uint64_t second, int64_t number);
void table_forget(table *in, uint64_t first, uint64_t second);
void table_free(table *in);
void shards_free(table *shards);
size_t table_bytes(const table *in);
size_t shards_bytes(const table *shards);

#endif
