/* Allocates memory. If there is none, the process ends: its work is committed in transactions, and what is uncommitted is repeated. */
#ifndef BANK_MEMORY_H
#define BANK_MEMORY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline void *sized(void *memory, size_t count, size_t item) {
    void *moved = realloc(memory, count * item);
    if (moved == NULL) {
        fputs("bankstream: no memory is left for the histories of customers\n", stderr);
        abort();
    }
    return moved;
}

/* Makes room for one more item. */
static inline void *grown(void *memory, uint32_t *room, uint32_t count, size_t item) {
    if (count < *room)
        return memory;
    *room = *room ? *room * 2 : 4;
    return sized(memory, *room, item);
}

#endif
