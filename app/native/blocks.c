/* Keeps the events of a history in blocks, and, in a history of several blocks, totals of each block and an index of identities. */
#include "blocks.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* Values of a block */

static uint32_t probe(const occurrences *in, uint64_t value) {
    uint32_t at = mixed_words(value, 0) & in->mask;
    while (in->places[at].value && in->places[at].value != value)
        at = (at + 1) & in->mask;
    return at;
}

static occurrence *find_value(const occurrences *in, uint64_t value) {
    if (in->places == NULL)
        return NULL;
    occurrence *found = &in->places[probe(in, value)];
    return found->value ? found : NULL;
}

occurrence *occurrence_of(const block *in, int dimension, uint64_t value) {
    return find_value(&in->values[dimension], value);
}

uint32_t new_stamp(bank_history *history) {
    if (++history->stamp == 0) { /* all numbers were used once */
        for (uint32_t position = 0; position < history->block_count; position++)
            for (int dimension = 0; dimension < DIMENSIONS; dimension++) {
                occurrences *in = &history->blocks[position].values[dimension];
                for (uint32_t at = 0; in->places != NULL && at <= in->mask; at++)
                    in->places[at].stamp = 0;
            }
        history->stamp = 1;
    }
    return history->stamp;
}

static void insert_value(occurrences *in, occurrence made) {
    if (in->places == NULL || in->used * 2 > in->mask) {
        occurrences wider = {NULL, in->places == NULL ? 7 : in->mask * 2 + 1, in->used};
        wider.places = sized(NULL, (size_t)wider.mask + 1, sizeof *wider.places);
        memset(wider.places, 0, ((size_t)wider.mask + 1) * sizeof *wider.places);
        for (uint32_t i = 0; in->places != NULL && i <= in->mask; i++)
            if (in->places[i].value)
                wider.places[probe(&wider, in->places[i].value)] = in->places[i];
        free(in->places);
        *in = wider;
    }
    in->places[probe(in, made.value)] = made;
    in->used++;
}

static void erase_value(occurrences *in, occurrence *gone) {
    uint32_t free_at = (uint32_t)(gone - in->places);
    in->used--;
    in->places[free_at].value = 0;
    for (uint32_t at = (free_at + 1) & in->mask; in->places[at].value; at = (at + 1) & in->mask) {
        uint32_t from = mixed_words(in->places[at].value, 0) & in->mask;
        if (((at - from) & in->mask) >= ((at - free_at) & in->mask)) { /* put behind the free place */
            in->places[free_at] = in->places[at];
            in->places[at].value = 0;
            free_at = at;
        }
    }
}

/* Successions */

static uint16_t *column(const succession *in, uint32_t position) {
    return in->cells + (size_t)(in->gone + position) * in->room + in->gone;
}

static uint16_t *first_of(const succession *in) {
    return in->first + in->gone;
}

/* A value more, or less, in a block is counted in the columns from that of a block before on; NOWHERE: no block before has the value. */
static void
count_from(const bank_history *history, succession *in, uint32_t position, uint32_t from_id, uint32_t end, int step) {
    if (from_id == NOWHERE) {
        first_of(in)[position] = (uint16_t)(first_of(in)[position] + step);
        return;
    }
    uint16_t *cell = column(in, history->positions[from_id]) + position;
    for (uint32_t at = history->positions[from_id]; at < end; at++, cell += in->room)
        *cell = (uint16_t)(*cell + step);
}

uint32_t distinct_between(const bank_history *history, int dimension, uint32_t behind, uint32_t end) {
    const succession *in = &history->successions[dimension];
    const uint16_t *cells = column(in, behind);
    uint32_t found = 0;
    for (uint32_t position = behind + 1; position < end; position++)
        found += (uint32_t)cells[position] + first_of(in)[position];
    return found;
}

static void widen(succession *in, uint32_t blocks) {
    if (in->gone + blocks <= in->room)
        return;
    uint32_t room = blocks + blocks / 4 + 8;
    succession wider = {sized(NULL, (size_t)room * room, sizeof *in->cells), NULL, room, 0, in->last};
    wider.first = sized(NULL, room, sizeof *in->first);
    for (uint32_t position = 0; in->room && position + 1 < blocks; position++) {
        memcpy(column(&wider, position), column(in, position), (blocks - 1) * sizeof *in->cells);
        wider.first[position] = first_of(in)[position];
    }
    free(in->cells);
    free(in->first);
    *in = wider;
}

/* A block without values comes in at a position that is not the first. `blocks`: how many there are with it. */
static void insert_succession(succession *in, uint32_t position, uint32_t blocks) {
    widen(in, blocks);
    for (uint32_t at = blocks - 1; at > position; at--) {
        memcpy(
            column(in, at) + position + 1, column(in, at - 1) + position, (blocks - position - 1) * sizeof *in->cells);
        first_of(in)[at] = first_of(in)[at - 1];
    }
    for (uint32_t at = 0; at < position; at++) {
        uint16_t *cell = column(in, at) + position;
        memmove(cell + 1, cell, (blocks - position - 1) * sizeof *cell);
        *cell = 0;
    }
    memcpy(column(in, position), column(in, position - 1), blocks * sizeof *in->cells);
    first_of(in)[position] = 0;
}

/* A block without values goes. `blocks`: how many there were with it. */
static void drop_succession(succession *in, uint32_t position, uint32_t blocks) {
    size_t behind = (blocks - position - 1) * sizeof *in->cells;
    if (position == 0) {
        in->gone++;
        return;
    }
    for (uint32_t at = 0; at < position; at++)
        memmove(column(in, at) + position, column(in, at) + position + 1, behind);
    for (uint32_t at = position; at + 1 < blocks; at++) {
        memcpy(column(in, at), column(in, at + 1), position * sizeof *in->cells);
        memcpy(column(in, at) + position, column(in, at + 1) + position + 1, behind);
        first_of(in)[at] = first_of(in)[at + 1];
    }
}

static void link(bank_history *history, int dimension, uint32_t position, uint64_t value) {
    block *in = &history->blocks[position];
    occurrence *known = find_value(&in->values[dimension], value);
    if (known != NULL) {
        known->count++;
        return;
    }
    succession *order = &history->successions[dimension];
    int64_t last = table_number(shard_of(order->last, value, 0), value, 0);
    uint32_t before = NOWHERE, after = NOWHERE;
    if (last != ABSENT && history->positions[last] < position)
        before = (uint32_t)last;
    else if (last != ABSENT) {
        occurrence *next = NULL;
        for (before = (uint32_t)last; before != NOWHERE && history->positions[before] > position;
             before = next->before) {
            after = before;
            next = find_value(&history->blocks[history->positions[after]].values[dimension], value);
        }
        next->before = in->id;
        if (before == NOWHERE) {
            count_from(history, order, history->positions[after], NOWHERE, 0, -1);
            count_from(history, order, history->positions[after], in->id, history->positions[after], 1);
        } else
            count_from(history, order, history->positions[after], before, position, -1);
    }
    if (before != NOWHERE)
        find_value(&history->blocks[history->positions[before]].values[dimension], value)->after = in->id;
    if (after == NOWHERE)
        table_exchange(shard_of(order->last, value, 0), value, 0, in->id);
    count_from(history, order, position, before, position, 1);
    insert_value(&in->values[dimension], (occurrence){value, 1, before, after, 0});
}

static void unlink(bank_history *history, int dimension, uint32_t position, uint64_t value) {
    block *in = &history->blocks[position];
    occurrence *known = find_value(&in->values[dimension], value);
    if (--known->count)
        return;
    succession *order = &history->successions[dimension];
    uint32_t before = known->before, after = known->after;
    erase_value(&in->values[dimension], known);
    count_from(history, order, position, before, position, -1);
    if (before != NOWHERE)
        find_value(&history->blocks[history->positions[before]].values[dimension], value)->after = after;
    if (after != NOWHERE) {
        find_value(&history->blocks[history->positions[after]].values[dimension], value)->before = before;
        if (before == NOWHERE) {
            count_from(history, order, history->positions[after], NOWHERE, 0, 1);
            count_from(history, order, history->positions[after], in->id, history->positions[after], -1);
        } else
            count_from(history, order, history->positions[after], before, position, 1);
    } else if (before != NOWHERE)
        table_exchange(shard_of(order->last, value, 0), value, 0, before);
    else
        table_forget(shard_of(order->last, value, 0), value, 0);
}

/* Totals */

static currency_totals *find_totals(const block *in, uint64_t currency) {
    for (uint32_t i = 0; i < in->currency_count; i++)
        if (in->currencies[i].currency == currency)
            return &in->currencies[i];
    return NULL;
}

const total *totals_of(const block *in, uint64_t currency) {
    const currency_totals *found = find_totals(in, currency);
    return found == NULL ? NULL : found->of;
}

static currency_totals *totals_for(const bank_history *history, block *in, uint64_t currency) {
    currency_totals *found = find_totals(in, currency);
    if (found != NULL)
        return found;
    size_t bytes = (size_t)history->selections * sizeof(total);
    in->currencies = grown(in->currencies, &in->currency_room, in->currency_count, sizeof *in->currencies);
    found = &in->currencies[in->currency_count++];
    *found = (currency_totals){currency, sized(NULL, 1, bytes)};
    memset(found->of, 0, bytes);
    return found;
}

/* The largest amount, which is not above `bound`. */
static int64_t most_of(const block *in, const bank_selection *selection, uint64_t currency, int64_t bound) {
    int64_t most = 0;
    for (uint32_t at = in->first; at < in->end && most < bound; at++) {
        const bank_event *event = &in->events[at];
        if (event->amount_minor > most && counts(event->status) && event->currency == currency &&
            takes(selection, event))
            most = event->amount_minor;
    }
    return most;
}

/* Lanes */

static total *find_lane(const bank_history *history, uint64_t currency) {
    for (uint32_t i = 0; i < history->lane_count; i++)
        if (history->lanes[i].currency == currency)
            return history->lanes[i].totals;
    return NULL;
}

const total *lane_of(const bank_history *history, uint64_t currency) {
    return find_lane(history, currency);
}

static total *lane_for(bank_history *history, uint64_t currency) {
    total *found = find_lane(history, currency);
    if (found != NULL)
        return found;
    history->lanes = grown(history->lanes, &history->lane_room, history->lane_count, sizeof *history->lanes);
    total *made = sized(NULL, history->position_room, sizeof *made);
    memset(made, 0, history->position_room * sizeof *made);
    history->lanes[history->lane_count++] = (lane){currency, made};
    return made;
}

/* Memory for the tallies and the lanes of all blocks. */
static void widen_lanes(bank_history *history) {
    if (history->block_count <= history->position_room)
        return;
    uint32_t room = history->block_count * 2, before = history->position_room;
    history->tallies = sized(history->tallies, room, sizeof *history->tallies);
    memset(history->tallies + before, 0, (room - before) * sizeof *history->tallies);
    for (uint32_t i = 0; i < history->lane_count; i++) {
        history->lanes[i].totals = sized(history->lanes[i].totals, room, sizeof(total));
        memset(history->lanes[i].totals + before, 0, (room - before) * sizeof(total));
    }
    history->position_room = room;
}

/* Moves what is from a position on to another. */
static void move_lanes(bank_history *history, uint32_t from, uint32_t to, uint32_t count) {
    memmove(history->tallies + to, history->tallies + from, count * sizeof *history->tallies);
    for (uint32_t i = 0; i < history->lane_count; i++)
        memmove(history->lanes[i].totals + to, history->lanes[i].totals + from, count * sizeof(total));
}

static void clear_lanes(bank_history *history, uint32_t position) {
    history->tallies[position] = (tally){0, 0, 0};
    for (uint32_t i = 0; i < history->lane_count; i++)
        history->lanes[i].totals[position] = (total){0, 0, 0};
}

static void add_totals(bank_history *history, uint32_t position, const bank_event *event) {
    block *in = &history->blocks[position];
    history->tallies[position].first_us = in->events[in->first].time_us;
    if (!counts(event->status)) {
        history->tallies[position].declined += event->status == DECLINED;
        return;
    }
    history->tallies[position].counted++;
    for (int dimension = 0; dimension < DIMENSIONS; dimension++)
        if (value_of(event, dimension))
            link(history, dimension, position, value_of(event, dimension));
    total *of = totals_for(history, in, event->currency)->of;
    for (int32_t i = 0; i < history->selections; i++)
        if (takes(&history->rules->selection[i], event)) {
            of[i].sum += event->amount_minor;
            of[i].count++;
            if (event->amount_minor > of[i].most)
                of[i].most = event->amount_minor;
        }
    lane_for(history, event->currency)[position] = of[0];
}

/* The event is no longer in the block. */
static void remove_totals(bank_history *history, uint32_t position, const bank_event *event) {
    block *in = &history->blocks[position];
    if (length_of(in))
        history->tallies[position].first_us = in->events[in->first].time_us;
    if (!counts(event->status)) {
        history->tallies[position].declined -= event->status == DECLINED;
        return;
    }
    history->tallies[position].counted--;
    for (int dimension = 0; dimension < DIMENSIONS; dimension++)
        if (value_of(event, dimension))
            unlink(history, dimension, position, value_of(event, dimension));
    total *of = find_totals(in, event->currency)->of;
    for (int32_t i = 0; i < history->selections; i++)
        if (takes(&history->rules->selection[i], event)) {
            of[i].sum -= event->amount_minor;
            of[i].count--;
            if (event->amount_minor == of[i].most)
                of[i].most = most_of(in, &history->rules->selection[i], event->currency, of[i].most);
        }
    lane_for(history, event->currency)[position] = of[0];
}

/* Blocks */

static void free_totals(block *in) {
    for (int dimension = 0; dimension < DIMENSIONS; dimension++) {
        free(in->values[dimension].places);
        in->values[dimension] = (occurrences){NULL, 0, 0};
    }
    for (uint32_t i = 0; i < in->currency_count; i++)
        free(in->currencies[i].of);
    free(in->currencies);
    in->currencies = NULL;
    in->currency_count = in->currency_room = 0;
}

static void drop_index(bank_history *history) {
    for (uint32_t position = 0; position < history->block_count; position++)
        free_totals(&history->blocks[position]);
    for (int dimension = 0; dimension < DIMENSIONS; dimension++) {
        free(history->successions[dimension].cells);
        free(history->successions[dimension].first);
        shards_free(history->successions[dimension].last);
        free(history->successions[dimension].last);
        history->successions[dimension] = (succession){NULL, NULL, 0, 0, NULL};
    }
    for (uint32_t i = 0; i < history->lane_count; i++)
        free(history->lanes[i].totals);
    free(history->lanes);
    free(history->tallies);
    history->lanes = NULL;
    history->tallies = NULL;
    history->lane_count = history->lane_room = history->position_room = 0;
    shards_free(history->identities);
    free(history->identities);
    history->identities = NULL;
    history->is_indexed = false;
}

static void remember(bank_history *history, const bank_event *event) {
    uint64_t account = (uint64_t)event->account_id, transaction = (uint64_t)event->transaction_id;
    table_exchange(shard_of(history->identities, account, transaction), account, transaction, event->time_us);
}

static void make_index(bank_history *history) {
    history->is_indexed = true;
    widen_lanes(history);
    for (int dimension = 0; dimension < DIMENSIONS; dimension++) {
        succession *in = &history->successions[dimension];
        widen(in, history->block_count);
        memset(in->cells, 0, (size_t)in->room * in->room * sizeof *in->cells);
        memset(in->first, 0, in->room * sizeof *in->first);
        in->last = sized(NULL, SHARDS, sizeof(table));
        memset(in->last, 0, SHARDS * sizeof(table));
    }
    history->identities = sized(NULL, SHARDS, sizeof(table));
    memset(history->identities, 0, SHARDS * sizeof(table));
    for (uint32_t position = 0; position < history->block_count; position++) {
        const block *in = &history->blocks[position];
        for (uint32_t at = in->first; at < in->end; at++) {
            const bank_event *event = &in->events[at];
            remember(history, event);
            add_totals(history, position, event);
        }
    }
}

static void insert_block(bank_history *history, uint32_t position) {
    history->blocks = grown(history->blocks, &history->block_room, history->block_count, sizeof *history->blocks);
    block *at = history->blocks + position;
    memmove(at + 1, at, (history->block_count++ - position) * sizeof *at);
    *at = (block){0};
    if (history->free_count)
        at->id = history->free_ids[--history->free_count];
    else {
        history->positions =
            grown(history->positions, &history->id_room, history->id_count, sizeof *history->positions);
        at->id = history->id_count++;
    }
    for (uint32_t moved = position; moved < history->block_count; moved++)
        history->positions[history->blocks[moved].id] = moved;
    if (!history->is_indexed)
        return;
    widen_lanes(history);
    move_lanes(history, position, position + 1, history->block_count - 1 - position);
    clear_lanes(history, position);
    for (int dimension = 0; dimension < DIMENSIONS; dimension++)
        insert_succession(&history->successions[dimension], position, history->block_count);
}

static void drop_block(bank_history *history, uint32_t position) {
    block *at = history->blocks + position;
    if (history->is_indexed) {
        move_lanes(history, position + 1, position, history->block_count - 1 - position);
        for (int dimension = 0; dimension < DIMENSIONS; dimension++)
            drop_succession(&history->successions[dimension], position, history->block_count);
    }
    free_totals(at);
    free(at->events);
    history->free_ids = grown(history->free_ids, &history->free_room, history->free_count, sizeof *history->free_ids);
    history->free_ids[history->free_count++] = at->id;
    memmove(at, at + 1, (--history->block_count - position) * sizeof *at);
    for (uint32_t moved = position; moved < history->block_count; moved++)
        history->positions[history->blocks[moved].id] = moved;
    if (history->is_indexed && history->block_count < 2)
        drop_index(history);
}

static void insert_event(block *in, uint32_t at, const bank_event *event) {
    if (in->end == in->room && in->first > in->room / 4) {
        memmove(in->events, in->events + in->first, length_of(in) * sizeof *in->events);
        at -= in->first;
        in->end -= in->first;
        in->first = 0;
    }
    in->events = grown(in->events, &in->room, in->end, sizeof *in->events);
    memmove(in->events + at + 1, in->events + at, (in->end - at) * sizeof *in->events);
    in->events[at] = *event;
    in->end++;
}

uint32_t block_of(const bank_history *history, const bank_event *key) {
    const block *blocks = history->blocks;
    /* The blocks before `low` do not begin behind the key; those from `high` on do. */
    uint32_t low = 0, high = history->block_count;
    if (!is_before(key, &blocks[high - 1].events[blocks[high - 1].first]))
        return high - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (is_before(key, &blocks[middle].events[blocks[middle].first]))
            high = middle;
        else
            low = middle + 1;
    }
    return low ? low - 1 : 0;
}

uint32_t position_in(const block *in, const bank_event *key) {
    uint32_t low = in->first, high = in->end;
    if (low < high && is_before(&in->events[high - 1], key))
        return high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (is_before(&in->events[middle], key))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The second half of a block becomes a block of its own. */
static void split(bank_history *history, uint32_t position) {
    insert_block(history, position + 1);
    block *in = &history->blocks[position], *made = in + 1;
    uint32_t half = in->first + length_of(in) / 2, end = in->end;
    for (uint32_t at = half; at < end; at++)
        insert_event(made, made->end, &in->events[at]);
    while (in->end > half) {
        in->end--;
        if (history->is_indexed)
            remove_totals(history, position, &in->events[in->end]);
    }
    for (uint32_t at = made->first; history->is_indexed && at < made->end; at++)
        add_totals(history, position + 1, &made->events[at]);
}

void blocks_add(bank_history *history, const bank_event *event) {
    uint32_t position = 0;
    if (history->block_count == 0)
        insert_block(history, 0);
    else {
        position = block_of(history, event);
        const block *in = &history->blocks[position];
        if (position == history->block_count - 1 && length_of(in) >= history->rules->block_events &&
            is_before(&in->events[in->end - 1], event))
            insert_block(history, ++position);
        else if (length_of(in) >= 2 * history->rules->block_events) {
            split(history, position);
            position = block_of(history, event);
        }
    }
    block *in = &history->blocks[position];
    insert_event(in, position_in(in, event), event);
    history->count++;
    if (!history->is_indexed) {
        if (history->block_count > 1)
            make_index(history);
        return;
    }
    remember(history, event);
    add_totals(history, position, event);
}

void blocks_remove(bank_history *history, whereabouts place) {
    block *in = &history->blocks[place.block];
    bank_event event = in->events[place.at];
    if (place.at == in->first)
        in->first++;
    else {
        memmove(in->events + place.at, in->events + place.at + 1, (in->end - place.at - 1) * sizeof *in->events);
        in->end--;
    }
    history->count--;
    if (history->is_indexed) {
        uint64_t account = (uint64_t)event.account_id, transaction = (uint64_t)event.transaction_id;
        table_forget(shard_of(history->identities, account, transaction), account, transaction);
        remove_totals(history, place.block, &event);
    }
    if (length_of(in) == 0)
        drop_block(history, place.block);
}

void blocks_change(bank_history *history, whereabouts place, const bank_event *event) {
    history->blocks[place.block].events[place.at] = *event;
}

void blocks_clear(bank_history *history) {
    if (history->is_indexed)
        drop_index(history);
    for (uint32_t position = 0; position < history->block_count; position++)
        free(history->blocks[position].events);
    history->block_count = history->id_count = history->free_count = history->count = 0;
}

void blocks_free(bank_history *history) {
    blocks_clear(history);
    free(history->blocks);
    free(history->positions);
    free(history->free_ids);
}

size_t blocks_bytes(const bank_history *history) {
    size_t bytes = history->block_room * sizeof(block) + (history->identities ? shards_bytes(history->identities) : 0);
    for (int dimension = 0; dimension < DIMENSIONS; dimension++) {
        const succession *in = &history->successions[dimension];
        bytes += (size_t)in->room * in->room * sizeof *in->cells + (in->last ? shards_bytes(in->last) : 0);
    }
    bytes += history->position_room * (sizeof(tally) + history->lane_count * sizeof(total));
    for (uint32_t position = 0; position < history->block_count; position++) {
        const block *in = &history->blocks[position];
        bytes += in->room * sizeof *in->events +
            in->currency_count * (sizeof *in->currencies + (size_t)history->selections * sizeof(total));
        for (int dimension = 0; dimension < DIMENSIONS; dimension++)
            if (in->values[dimension].places != NULL)
                bytes += ((size_t)in->values[dimension].mask + 1) * sizeof(occurrence);
    }
    return bytes;
}
