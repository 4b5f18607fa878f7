/* Computes what is in a window: from events of the two blocks at its ends, and from totals of the blocks between. */
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "memory.h"
#include "text.h"

/* Sets of values. They are kept from one call to the next, so that only their stamp has to change; hence all calls are of one thread. */

typedef struct {
    struct {
        uint64_t value;
        uint32_t stamp;
    } *places;
    uint64_t *members; /* in the order in which they came */
    uint32_t mask, room, stamp, count;
} set;

/* The values of the block in which the windows end, up to their end. */
static set in_end[DIMENSIONS];

/* Empties a set, which then has room for so many. */
static void start(set *in, uint32_t most) {
    if (most * 2 > in->room) {
        in->room = in->room ? in->room : 64;
        while (most * 2 > in->room)
            in->room *= 2;
        in->places = sized(in->places, in->room, sizeof *in->places);
        in->members = sized(in->members, in->room, sizeof *in->members);
        memset(in->places, 0, in->room * sizeof *in->places);
        in->stamp = 0;
    }
    if (++in->stamp == 0) {
        memset(in->places, 0, in->room * sizeof *in->places);
        in->stamp = 1;
    }
    in->count = 0;
    for (in->mask = 7; in->mask < most * 2 && in->mask < in->room - 1;)
        in->mask = in->mask * 2 + 1;
}

static uint32_t place_in(const set *in, uint64_t value) {
    uint32_t at = mixed_words(value, 0) & in->mask;
    while (in->places[at].stamp == in->stamp && in->places[at].value != value)
        at = (at + 1) & in->mask;
    return at;
}

static bool has(const set *in, uint64_t value) {
    return in->places[place_in(in, value)].stamp == in->stamp;
}

static void include(set *in, uint64_t value) {
    uint32_t at = place_in(in, value);
    if (in->places[at].stamp == in->stamp)
        return;
    in->places[at].value = value;
    in->places[at].stamp = in->stamp;
    in->members[in->count++] = value;
}

/* Windows */

typedef struct {
    __int128 sum;
    int64_t most;
    uint32_t amounts, counted, declined, distinct[DIMENSIONS];
} figures;

/* Adds an event that counts, but for its values. */
static void add_counted(figures *to, const bank_selection *all, uint64_t currency, const bank_event *event) {
    to->counted++;
    if (event->currency != currency || !takes(all, event))
        return;
    to->sum += event->amount_minor;
    to->amounts++;
    if (event->amount_minor > to->most)
        to->most = event->amount_minor;
}

static void add_block(figures *to, const tally *of, const total *amounts) {
    to->counted += of->counted;
    to->declined += of->declined;
    if (amounts == NULL)
        return;
    to->sum += amounts->sum;
    to->amounts += amounts->count;
    if (amounts->most > to->most)
        to->most = amounts->most;
}

/* Behind the last event that is not later than an instant: a block that has such an event, and a position. False if there is none. */
static bool end_at(const bank_history *history, int64_t time_us, whereabouts *end) {
    const bank_event behind = {.time_us = time_us, .account_id = INT64_MAX, .transaction_id = INT64_MAX};
    if (history->block_count == 0)
        return false;
    end->block = block_of(history, &behind);
    const block *in = &history->blocks[end->block];
    end->at = position_in(in, &behind);
    if (end->at < in->end && !is_before(&behind, &in->events[end->at]))
        end->at++; /* the event has the greatest key of its instant */
    return end->at > in->first;
}

/* For each value in `in_end`, the position of the block before that has it next, and NOWHERE if there is none; the number of values. */
static uint32_t *before_end[DIMENSIONS];
static uint32_t before_room;

static void find_before_end(const bank_history *history, uint32_t end) {
    uint32_t most = in_end[COUNTERPARTY].room > in_end[COUNTRY].room ? in_end[COUNTERPARTY].room : in_end[COUNTRY].room;
    for (int dimension = 0; dimension < DIMENSIONS; dimension++) {
        if (most > before_room)
            before_end[dimension] = sized(before_end[dimension], most, sizeof **before_end);
        for (uint32_t i = 0; i < in_end[dimension].count; i++) {
            uint32_t before = occurrence_of(&history->blocks[end], dimension, in_end[dimension].members[i])->before;
            before_end[dimension][i] = before == NOWHERE ? NOWHERE : history->positions[before];
        }
    }
    if (most > before_room)
        before_room = most;
}

/* A window that begins in a block before the one in which it ends: `begin` and `end` are their positions. `to` has what is behind the
 * first of them. Distinct values are counted where they come first: those of the first block; those of the blocks between that do not come
 * in the first block within the window; and likewise those of the last block. */
static void
add_begin(bank_history *history, uint32_t begin, uint32_t end, int64_t after_us, uint64_t currency, figures *to) {
    const block *in = &history->blocks[begin];
    uint32_t stamp = new_stamp(history);
    for (int dimension = 0; dimension < DIMENSIONS; dimension++) {
        to->distinct[dimension] = distinct_between(history, dimension, begin, end);
        for (uint32_t i = 0; i < in_end[dimension].count; i++) {
            uint32_t before = before_end[dimension][i];
            to->distinct[dimension] += before == NOWHERE || before <= begin;
        }
    }
    for (uint32_t at = in->end; at > in->first && in->events[at - 1].time_us > after_us; at--) {
        const bank_event *event = &in->events[at - 1];
        if (!counts(event->status)) {
            to->declined += event->status == DECLINED;
            continue;
        }
        add_counted(to, history->rules->selection, currency, event);
        for (int dimension = 0; dimension < DIMENSIONS; dimension++) {
            uint64_t value = value_of(event, dimension);
            occurrence *found = value ? occurrence_of(in, dimension, value) : NULL;
            if (found == NULL || found->stamp == stamp)
                continue;
            found->stamp = stamp;
            uint32_t next = found->after == NOWHERE ? NOWHERE : history->positions[found->after];
            to->distinct[dimension] += !(next < end || (next == end && has(&in_end[dimension], value)));
        }
    }
}

/* The figures of all windows that end at an instant, from the shortest to the longest. */
static void
compute(bank_history *history, int64_t time_us, uint64_t currency, const int64_t *after_us, figures *windows) {
    int32_t number = 0, all = history->rules->windows;
    figures now = {0};
    whereabouts end;
    if (!end_at(history, time_us, &end)) {
        memset(windows, 0, (size_t)all * sizeof *windows);
        return;
    }
    const block *in = &history->blocks[end.block];
    for (int dimension = 0; dimension < DIMENSIONS; dimension++)
        start(&in_end[dimension], end.at - in->first);
    for (uint32_t at = end.at; at > in->first; at--) {
        const bank_event *event = &in->events[at - 1];
        for (; number < all && event->time_us <= after_us[number]; number++)
            windows[number] = now;
        if (number == all)
            return;
        if (!counts(event->status)) {
            now.declined += event->status == DECLINED;
            continue;
        }
        add_counted(&now, history->rules->selection, currency, event);
        for (int dimension = 0; dimension < DIMENSIONS; dimension++) {
            if (value_of(event, dimension))
                include(&in_end[dimension], value_of(event, dimension));
            now.distinct[dimension] = in_end[dimension].count;
        }
    }
    if (end.block == 0) {
        while (number < all)
            windows[number++] = now;
        return;
    }
    find_before_end(history, end.block);
    const total *lane = lane_of(history, currency);
    for (uint32_t begin = end.block - 1; number < all; begin--) {
        for (; number < all && (begin == 0 || history->tallies[begin].first_us <= after_us[number]); number++) {
            windows[number] = now;
            add_begin(history, begin, end.block, after_us[number], currency, &windows[number]);
        }
        add_block(&now, &history->tallies[begin], lane == NULL ? NULL : &lane[begin]);
    }
}

static unsigned __int128 half_even(unsigned __int128 total, uint32_t count) {
    unsigned __int128 mean;
    uint64_t rest;
    if (total >> 64) {
        mean = total / count;
        rest = (uint64_t)(total % count);
    } else {
        mean = (uint64_t)total / count;
        rest = (uint64_t)total % count;
    }
    return mean + (2 * rest > count || (2 * rest == count && (uint64_t)mean % 2 == 1));
}

static uint8_t *write_window(uint8_t *at, const figures *of) {
    uint8_t in_all[48], *end = write_amount(in_all, (unsigned __int128)of->sum);
    size_t length = (size_t)(end - in_all);
    at = WRITE(at, "{\"count\":");
    at = write_integer(at, of->counted);
    at = WRITE(at, ",\"sum\":\"");
    at = write_bytes(at, in_all, length);
    at = WRITE(at, "\",\"average\":\"");
    at = of->amounts > 1 ? write_amount(at, half_even((unsigned __int128)of->sum, of->amounts))
                         : write_bytes(at, in_all, length);
    at = WRITE(at, "\",\"max\":\"");
    at = of->amounts > 1 ? write_amount(at, (unsigned __int128)of->most) : write_bytes(at, in_all, length);
    at = WRITE(at, "\",\"distinct_counterparties\":");
    at = write_integer(at, of->distinct[COUNTERPARTY]);
    at = WRITE(at, ",\"distinct_countries\":");
    at = write_integer(at, of->distinct[COUNTRY]);
    at = WRITE(at, ",\"declined_count\":");
    at = write_integer(at, of->declined);
    return WRITE(at, "}");
}

static bool is_same(const figures *left, const figures *right) {
    return left->sum == right->sum && left->most == right->most && left->amounts == right->amounts &&
        left->counted == right->counted && left->declined == right->declined &&
        memcmp(left->distinct, right->distinct, sizeof left->distinct) == 0;
}

uint8_t *history_windows(
    bank_history *history, int64_t time_us, uint64_t currency, uint8_t *at, int64_t window_counts[BANK_WINDOWS]) {
    const bank_rules *rules = history->rules;
    int64_t after_us[BANK_WINDOWS];
    figures windows[BANK_WINDOWS];
    bank_history_seek(history, time_us);
    for (int32_t i = 0; i < rules->windows; i++)
        after_us[i] = bank_history_after(history, rules->length_us[i]);
    compute(history, time_us, currency, after_us, windows);
    size_t length = 0;
    const uint8_t *before = NULL;
    at = WRITE(at, "{");
    for (int32_t i = 0; i < rules->windows; i++) {
        if (i)
            at = WRITE(at, ",");
        at = WRITE(at, "\"");
        at = write_bytes(at, rules->name[i], strlen(rules->name[i]));
        at = WRITE(at, "\":");
        uint8_t *first = at;
        at = before != NULL && is_same(&windows[i], &windows[i - 1]) ? write_bytes(at, before, length)
                                                                     : write_window(at, &windows[i]);
        before = first;
        length = (size_t)(at - first);
        window_counts[i] = windows[i].counted;
    }
    return WRITE(at, "}");
}

int64_t bank_history_windows(bank_history *history, int64_t time_us, uint64_t currency, uint8_t *json) {
    int64_t window_counts[BANK_WINDOWS];
    return history_windows(history, time_us, currency, json, window_counts) - json;
}

/* Amounts of a selection */

static bool is_selected(const bank_history *history, int32_t selection, uint64_t currency, const bank_event *event) {
    return counts(event->status) && event->currency == currency && takes(&history->rules->selection[selection], event);
}

int64_t bank_history_amounts(
    const bank_history *history, int selection, uint64_t currency, int64_t after_us, int64_t *high, uint64_t *low) {
    int64_t found = 0;
    __int128 sum = 0;
    whereabouts end;
    bool is_there = end_at(history, history->end_us, &end);
    for (uint32_t left = is_there ? end.block + 1 : 0; left; left--) {
        const block *in = &history->blocks[left - 1];
        uint32_t behind = left == end.block + 1 ? end.at : in->end;
        if (behind < in->end || !history->is_indexed || in->events[in->first].time_us <= after_us) {
            for (; behind > in->first && in->events[behind - 1].time_us > after_us; behind--)
                if (is_selected(history, selection, currency, &in->events[behind - 1])) {
                    sum += in->events[behind - 1].amount_minor;
                    found++;
                }
            if (behind > in->first)
                break;
        } else if (totals_of(in, currency) != NULL) {
            sum += totals_of(in, currency)[selection].sum;
            found += totals_of(in, currency)[selection].count;
        }
    }
    *high = (int64_t)(sum >> 64);
    *low = (uint64_t)sum;
    return found;
}

bool history_has_amount(const bank_history *history, int32_t selection, uint64_t currency, int64_t length_us) {
    bank_event event;
    return bank_history_latest_amounts(
               history, selection, currency, bank_history_after(history, length_us), 1, &event) > 0;
}

int64_t bank_history_latest_amounts(
    const bank_history *history, int selection, uint64_t currency, int64_t after_us, int64_t limit,
    bank_event *events) {
    int64_t found = 0;
    whereabouts end;
    bool is_there = end_at(history, history->end_us, &end);
    for (uint32_t left = is_there ? end.block + 1 : 0; left && found < limit; left--) {
        const block *in = &history->blocks[left - 1];
        uint32_t behind = left == end.block + 1 ? end.at : in->end;
        const total *of = history->is_indexed ? totals_of(in, currency) : NULL;
        if (history->is_indexed && (of == NULL || of[selection].count == 0)) {
            if (in->events[in->first].time_us <= after_us)
                break;
            continue;
        }
        for (; behind > in->first && found < limit; behind--) {
            if (in->events[behind - 1].time_us <= after_us)
                return found;
            if (is_selected(history, selection, currency, &in->events[behind - 1]))
                events[found++] = in->events[behind - 1];
        }
    }
    return found;
}

int64_t bank_history_latest_counted(
    const bank_history *history, int64_t until_us, int64_t after_us, int64_t limit, bank_event *events) {
    int64_t found = 0;
    whereabouts end;
    const bank_event *event;
    if (!end_at(history, until_us, &end))
        return 0;
    while (found < limit && (event = history_back(history, &end)) != NULL && event->time_us > after_us)
        if (counts(event->status))
            events[found++] = *event;
    return found;
}
