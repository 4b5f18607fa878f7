/* Stores a customer's events and computes the windows over them, as app/domain/velocity.py and window_aggregates.py do, in arrays. */
#include "history.h"

#include <stdio.h>
#include <stdlib.h>

#include "text.h"

#define ABSENT INT64_MIN

void *sized(void *memory, size_t count, size_t item) {
    void *moved = realloc(memory, count * item);
    if (moved == NULL) {
        fputs("bankstream: no memory is left for the histories of customers\n", stderr);
        abort();
    }
    return moved;
}

/* Room for one more. */
static void *grown(void *memory, uint32_t *room, uint32_t count, size_t item) {
    if (count < *room)
        return memory;
    *room = *room ? *room * 2 : 4;
    return sized(memory, *room, item);
}

/* Tables */

static uint32_t home(const table *in, uint64_t first, uint64_t second) {
    uint64_t mixed = first * UINT64_C(0x9E3779B97F4A7C15) ^ second * UINT64_C(0xC2B2AE3D27D4EB4F);
    mixed ^= mixed >> 32;
    mixed *= UINT64_C(0xD6E8FEB86659FD93);
    return (uint32_t)(mixed >> 32) & in->mask;
}

/* The place of these words, or the free one where they would be put. */
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

static int64_t number_of(const table *in, uint64_t first, uint64_t second) {
    return in->places == NULL ? ABSENT : in->places[probe(in, first, second)].number;
}

/* Sets the number, answers what it was. */
static int64_t exchange(table *in, uint64_t first, uint64_t second, int64_t number) {
    make_room(in);
    place *at = &in->places[probe(in, first, second)];
    int64_t before = at->number;
    in->used += before == ABSENT;
    *at = (place){first, second, number};
    return before;
}

static void forget(table *in, uint64_t first, uint64_t second) {
    if (in->places == NULL)
        return;
    uint32_t free_at = probe(in, first, second);
    if (in->places[free_at].number == ABSENT)
        return;
    in->used--;
    in->places[free_at].number = ABSENT;
    for (uint32_t at = (free_at + 1) & in->mask; in->places[at].number != ABSENT; at = (at + 1) & in->mask) {
        uint32_t from = home(in, in->places[at].first, in->places[at].second);
        if (((at - from) & in->mask) >= ((at - free_at) & in->mask)) { /* it was put past the place that is free now */
            in->places[free_at] = in->places[at];
            in->places[at].number = ABSENT;
            free_at = at;
        }
    }
}

static void empty(table *in) {
    free(in->places);
    *in = (table){NULL, 0, 0};
}

/* Distinct values */

/* How many of an ascending list are less than this. */
static uint32_t below(const uint32_t *list, uint32_t count, uint32_t number) {
    uint32_t low = 0;
    while (low < count) {
        uint32_t middle = low + (count - low) / 2;
        if (list[middle] < number)
            low = middle + 1;
        else
            count = middle;
    }
    return low;
}

static uint32_t distinct_push(distinct *in, uint64_t value, uint32_t position) {
    int64_t before = exchange(&in->positions, value, 0, position);
    if (before != ABSENT) {
        uint32_t at = in->last[in->count - 1] == before ? in->count - 1 : below(in->last, in->count, (uint32_t)before);
        memmove(in->last + at, in->last + at + 1, (in->count - at - 1) * sizeof *in->last);
        in->count--;
    }
    in->last = grown(in->last, &in->room, in->count, sizeof *in->last);
    in->last[in->count++] = position;
    return before == ABSENT ? NOWHERE : (uint32_t)before;
}

static void distinct_pop(distinct *in, uint64_t value, uint32_t before) {
    in->count--;
    if (before == NOWHERE) {
        forget(&in->positions, value, 0);
        return;
    }
    exchange(&in->positions, value, 0, before);
    uint32_t at = below(in->last, in->count, before);
    memmove(in->last + at + 1, in->last + at, (in->count - at) * sizeof *in->last);
    in->last[at] = before;
    in->count++;
}

static void distinct_clear(distinct *in) {
    empty(&in->positions);
    in->count = 0;
}

/* Amounts */

static void track_push(track *in, uint32_t position, int64_t amount_minor) {
    while (in->peak_count && in->rows[in->peaks[in->peak_count - 1]].amount <= amount_minor)
        in->peak_count--;
    if (in->rows == NULL) {
        in->rows = grown(NULL, &in->room, 0, sizeof *in->rows);
        in->rows[0] = (row){0, 0, 0, 0};
    }
    uint32_t lies_on = in->peak_count ? in->peaks[in->peak_count - 1] : 0;
    in->rows = grown(in->rows, &in->room, in->count + 1, sizeof *in->rows);
    in->peaks = grown(in->peaks, &in->peak_room, in->peak_count, sizeof *in->peaks);
    in->rows[in->count + 1] = (row){in->rows[in->count].sum + amount_minor, amount_minor, position, lies_on};
    in->peaks[in->peak_count++] = ++in->count;
}

static void track_pop(track *in) {
    uint32_t floor = in->rows[in->count--].below, covered = 0;
    in->peak_count--;
    for (uint32_t at = in->count; at > floor; at = in->rows[at].below)
        covered++;
    for (uint32_t i = 0; i < covered; i++)
        in->peaks = grown(in->peaks, &in->peak_room, in->peak_count + i, sizeof *in->peaks);
    in->peak_count += covered;
    for (uint32_t at = in->count, to = in->peak_count; at > floor; at = in->rows[at].below)
        in->peaks[--to] = at;
}

static bool takes(const bank_selection *selection, const bank_event *event) {
    return selection->at_least_minor <= event->amount_minor && event->amount_minor <= selection->at_most_minor &&
        (event->credit ? selection->credit : selection->debit);
}

static track *tracks_of(const bank_history *history, uint64_t currency) {
    for (uint32_t i = 0; i < history->currency_count; i++)
        if (history->currencies[i].currency == currency)
            return history->currencies[i].tracks;
    return NULL;
}

static track *tracks_for(bank_history *history, uint64_t currency) {
    track *found = tracks_of(history, currency);
    if (found != NULL)
        return found;
    size_t selections = (size_t)history->selections;
    track *made = sized(NULL, selections, sizeof *made);
    memset(made, 0, selections * sizeof *made);
    history->currencies =
        grown(history->currencies, &history->currency_room, history->currency_count, sizeof *history->currencies);
    history->currencies[history->currency_count++] = (currency_tracks){currency, made};
    return made;
}

static void clear_tracks(bank_history *history) {
    history->reached = history->counted = history->declined = 0;
    history->end_us = 0;
    distinct_clear(&history->counterparties);
    distinct_clear(&history->countries);
    for (uint32_t i = 0; i < history->currency_count; i++)
        for (int32_t j = 0; j < history->selections; j++)
            history->currencies[i].tracks[j].count = history->currencies[i].tracks[j].peak_count = 0;
}

/* The cursor */

static void push(bank_history *history) {
    uint32_t position = history->reached++;
    entry *at = &history->entries[position];
    const bank_event *event = &at->event;
    at->counted = history->counted;
    at->declined = history->declined;
    if (!counts(event->status)) {
        history->declined += event->status == DECLINED;
        return;
    }
    history->counted++;
    if (event->counterparty)
        at->same_counterparty = distinct_push(&history->counterparties, event->counterparty, position);
    if (event->country)
        at->same_country = distinct_push(&history->countries, event->country, position);
    track *tracks = tracks_for(history, event->currency);
    for (int32_t i = 0; i < history->selections; i++)
        if (takes(&history->rules->selection[i], event))
            track_push(&tracks[i], position, event->amount_minor);
}

static void pop(bank_history *history) {
    const entry *at = &history->entries[--history->reached];
    const bank_event *event = &at->event;
    history->counted = at->counted;
    history->declined = at->declined;
    if (!counts(event->status))
        return;
    if (event->counterparty)
        distinct_pop(&history->counterparties, event->counterparty, at->same_counterparty);
    if (event->country)
        distinct_pop(&history->countries, event->country, at->same_country);
    track *tracks = tracks_of(history, event->currency);
    for (int32_t i = 0; i < history->selections; i++)
        if (takes(&history->rules->selection[i], event))
            track_pop(&tracks[i]);
}

static void move(bank_history *history, uint32_t position) {
    while (history->reached > position)
        pop(history);
    while (history->reached < position)
        push(history);
}

static void move_back(bank_history *history, uint32_t position) {
    if (history->reached > position)
        move(history, position);
}

/* The first position later than an instant, in [low, high). */
static uint32_t later(const bank_history *history, int64_t time_us, uint32_t low, uint32_t high) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (history->times[middle] <= time_us)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The same in [0, high), for a position that is probably near to `near`. */
static uint32_t later_near(const bank_history *history, int64_t time_us, uint32_t near, uint32_t high) {
    uint32_t low = 0, step = 1;
    if (near < high && history->times[near] <= time_us) {
        low = near + 1;
        while (low + step < high && history->times[low + step - 1] <= time_us) {
            low += step;
            step *= 2;
        }
        high = low + step < high ? low + step : high;
    } else {
        high = near < high ? near : high;
        while (step < high && history->times[high - step] > time_us) {
            high -= step;
            step *= 2;
        }
        low = step < high ? high - step : 0;
    }
    return later(history, time_us, low, high);
}

void bank_history_seek(bank_history *history, int64_t time_us) {
    uint32_t count = history->count;
    history->end_us = time_us;
    move(history, count && history->times[count - 1] <= time_us ? count : later(history, time_us, 0, count));
}

int64_t bank_history_after(const bank_history *history, int64_t length_us) {
    int64_t after_us = history->end_us - length_us;
    return after_us > history->floor_us ? after_us : history->floor_us;
}

/* Events */

static bool is_before(const bank_event *left, const bank_event *right) {
    if (left->time_us != right->time_us)
        return left->time_us < right->time_us;
    if (left->account_id != right->account_id)
        return left->account_id < right->account_id;
    return left->transaction_id < right->transaction_id;
}

/* The first position whose key is not before this one, from `low` on. */
static uint32_t place_of(const bank_history *history, const bank_event *key, uint32_t low) {
    uint32_t high = history->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int64_t time_us = history->times[middle];
        if (time_us < key->time_us || (time_us == key->time_us && is_before(&history->entries[middle].event, key)))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

entry *history_find(const bank_history *history, int64_t account_id, int64_t transaction_id) {
    int64_t time_us = number_of(&history->identities, (uint64_t)account_id, (uint64_t)transaction_id);
    if (time_us == ABSENT)
        return NULL;
    bank_event key = {.time_us = time_us, .account_id = account_id, .transaction_id = transaction_id};
    return &history->entries[place_of(history, &key, history->first)];
}

bool weighs_the_same(const bank_event *left, const bank_event *right) {
    uint8_t left_status = counts(left->status) ? POSTED : left->status;
    uint8_t right_status = counts(right->status) ? POSTED : right->status;
    return left->amount_minor == right->amount_minor && left->currency == right->currency &&
        left->credit == right->credit && left_status == right_status && left->counterparty == right->counterparty &&
        left->country == right->country;
}

static void take_out(bank_history *history, uint32_t position) {
    move_back(history, position);
    const bank_event *event = &history->entries[position].event;
    forget(&history->identities, (uint64_t)event->account_id, (uint64_t)event->transaction_id);
    uint32_t behind = --history->count - position;
    memmove(history->entries + position, history->entries + position + 1, behind * sizeof *history->entries);
    memmove(history->times + position, history->times + position + 1, behind * sizeof *history->times);
}

void history_add(bank_history *history, const bank_event *event) {
    history->entries = grown(history->entries, &history->entry_room, history->count, sizeof *history->entries);
    history->times = grown(history->times, &history->time_room, history->count, sizeof *history->times);
    uint32_t count = history->count, position = count;
    if (count > history->first && !is_before(&history->entries[count - 1].event, event)) {
        position = place_of(history, event, history->first);
        move_back(history, position);
        entry *at = history->entries + position;
        int64_t *time = history->times + position;
        memmove(at + 1, at, (count - position) * sizeof *at);
        memmove(time + 1, time, (count - position) * sizeof *time);
    }
    history->count++;
    history->entries[position] = (entry){*event, 0, 0, NOWHERE, NOWHERE};
    history->times[position] = event->time_us;
    exchange(&history->identities, (uint64_t)event->account_id, (uint64_t)event->transaction_id, event->time_us);
}

void bank_history_put(bank_history *history, const bank_event *event) {
    entry *known = history_find(history, event->account_id, event->transaction_id);
    if (known != NULL) {
        if (known->event.time_us == event->time_us && weighs_the_same(&known->event, event)) {
            known->event = *event;
            return;
        }
        take_out(history, (uint32_t)(known - history->entries));
    }
    history_add(history, event);
}

int bank_history_remove(bank_history *history, int64_t account_id, int64_t transaction_id) {
    entry *known = history_find(history, account_id, transaction_id);
    if (known == NULL)
        return 0;
    take_out(history, (uint32_t)(known - history->entries));
    return 1;
}

int bank_history_forget(bank_history *history, int64_t account_id, int64_t transaction_id, bank_event *marker) {
    const entry *known = history_find(history, account_id, transaction_id);
    if (known == NULL || known->event.fired == 0)
        return bank_history_remove(history, account_id, transaction_id);
    *marker = known->event;
    marker->status = REMOVED;
    marker->counterparty = marker->country = 0;
    bank_history_put(history, marker);
    return 2;
}

int64_t bank_history_before(const bank_history *history, int64_t horizon_us) {
    if (history->first == history->count || history->times[history->first] >= horizon_us)
        return 0;
    return later(history, horizon_us - 1, history->first, history->count) - history->first;
}

/* Let go of what has expired; the tracks are made again when they are asked. */
static void compact(bank_history *history) {
    uint32_t first = history->first, count = history->count - first;
    if (count) {
        memmove(history->entries, history->entries + first, count * sizeof *history->entries);
        memmove(history->times, history->times + first, count * sizeof *history->times);
    }
    history->count = count;
    history->first = 0;
    clear_tracks(history);
}

void bank_history_expire(bank_history *history, int64_t horizon_us, bank_event *expired) {
    if (horizon_us - 1 < history->floor_us)
        compact(history);
    history->floor_us = horizon_us - 1;
    uint32_t first = history->first + (uint32_t)bank_history_before(history, horizon_us);
    if (first == history->first)
        return;
    for (uint32_t position = history->first; position < first; position++) {
        const bank_event *event = &history->entries[position].event;
        forget(&history->identities, (uint64_t)event->account_id, (uint64_t)event->transaction_id);
        if (expired != NULL)
            *expired++ = *event;
    }
    history->first = first;
    if (first > history->rules->compact_at && 2 * first > history->count)
        compact(history);
}

int bank_history_previous(const bank_history *history, const bank_event *key, bank_event *event) {
    for (uint32_t position = place_of(history, key, history->first); position > history->first; position--)
        if (history->entries[position - 1].event.status != REMOVED) {
            *event = history->entries[position - 1].event;
            return 1;
        }
    return 0;
}

int64_t bank_history_latest_counted(
    const bank_history *history, int64_t until_us, int64_t after_us, int64_t limit, bank_event *events) {
    int64_t found = 0;
    uint32_t position = later(history, until_us, 0, history->count);
    for (; position > history->first && found < limit && history->times[position - 1] > after_us; position--)
        if (counts(history->entries[position - 1].event.status))
            events[found++] = history->entries[position - 1].event;
    return found;
}

int bank_history_event(const bank_history *history, int64_t place, bank_event *event) {
    if (place < 0 || place >= history->count - history->first)
        return 0;
    *event = history->entries[history->first + place].event;
    return 1;
}

int bank_history_find(const bank_history *history, int64_t account_id, int64_t transaction_id, bank_event *event) {
    const entry *found = history_find(history, account_id, transaction_id);
    if (found == NULL)
        return 0;
    *event = found->event;
    return 1;
}

int64_t bank_history_length(const bank_history *history) {
    return history->count - history->first;
}

int64_t bank_history_size(const bank_history *history) {
    return (int64_t)(history->count + history->text_bytes / sizeof(entry));
}

int64_t bank_history_floor(const bank_history *history) {
    return history->floor_us;
}

/* Texts */

#define INTERNED (UINT64_C(0xFF) << 56)

uint32_t bank_history_intern(bank_history *history, const uint8_t *bytes, size_t length) {
    uint64_t digest, nth = length;
    int64_t known;
    blake2b_8(bytes, length, (uint8_t *)&digest);
    /* Another text of this digest and length is where it would be; its place is the next one. */
    for (; (known = number_of(&history->numbers, digest, nth)) != ABSENT; nth += UINT64_C(1) << 40) {
        const text *other = &history->texts[known - 1];
        if (other->length == length && memcmp(other->bytes, bytes, length) == 0)
            return (uint32_t)known;
    }
    text made = {sized(NULL, length + 1, 1), length};
    memcpy(made.bytes, bytes, length);
    history->texts = grown(history->texts, &history->text_room, history->text_count, sizeof *history->texts);
    history->texts[history->text_count++] = made;
    history->text_bytes += length;
    exchange(&history->numbers, digest, nth, history->text_count);
    return history->text_count;
}

const uint8_t *bank_history_text(const bank_history *history, uint32_t number, size_t *length) {
    *length = history->texts[number - 1].length;
    return history->texts[number - 1].bytes;
}

uint64_t bank_history_word(bank_history *history, const uint8_t *bytes, size_t length) {
    uint64_t word = 0;
    if (length > sizeof word || memchr(bytes, 0, length) != NULL)
        return INTERNED | bank_history_intern(history, bytes, length);
    memcpy(&word, bytes, length);
    return word;
}

text text_of(const bank_history *history, const uint64_t *word) {
    if (*word >= INTERNED)
        return history->texts[(uint32_t)*word - 1];
    text found = {(uint8_t *)word, sizeof *word};
    while (found.length > 0 && found.bytes[found.length - 1] == 0)
        found.length--;
    return found;
}

/* Windows */

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

/* The first row of an event at or behind a position. */
static uint32_t row_from(const track *in, uint32_t position) {
    uint32_t low = 1, high = in->count + 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (in->rows[middle].position < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint8_t *write_window(const bank_history *history, const track *amounts, uint32_t first, uint8_t *at) {
    bool to_end = first == history->reached;
    uint32_t counted = to_end ? history->counted : history->entries[first].counted;
    uint32_t declined = to_end ? history->declined : history->entries[first].declined;
    uint32_t from = 1, count = 0;
    unsigned __int128 total = 0;
    if (amounts != NULL && amounts->count) {
        from = amounts->count == history->counted ? counted + 1
                                                  : row_from(amounts, first); /* no other currency, or else */
        count = amounts->count + 1 - from;
        total = (unsigned __int128)(amounts->rows[amounts->count].sum - amounts->rows[from - 1].sum);
    }
    at = WRITE(at, "{\"count\":");
    at = write_integer(at, history->counted - counted);
    uint8_t in_all[48], *end = write_amount(in_all, total);
    size_t length = (size_t)(end - in_all);
    at = WRITE(at, ",\"sum\":\"");
    at = write_bytes(at, in_all, length);
    at = WRITE(at, "\",\"average\":\"");
    at = count > 1 ? write_amount(at, half_even(total, count)) : write_bytes(at, in_all, length);
    at = WRITE(at, "\",\"max\":\"");
    if (count > 1) {
        uint32_t peak = amounts->peaks[below(amounts->peaks, amounts->peak_count, from)];
        at = write_amount(at, (unsigned __int128)amounts->rows[peak].amount);
    } else
        at = write_bytes(at, in_all, length);
    at = WRITE(at, "\",\"distinct_counterparties\":");
    const distinct *counterparties = &history->counterparties, *countries = &history->countries;
    at = write_integer(at, counterparties->count - below(counterparties->last, counterparties->count, first));
    at = WRITE(at, ",\"distinct_countries\":");
    at = write_integer(at, countries->count - below(countries->last, countries->count, first));
    at = WRITE(at, ",\"declined_count\":");
    at = write_integer(at, history->declined - declined);
    return WRITE(at, "}");
}

uint8_t *history_windows(
    bank_history *history, int64_t time_us, uint64_t currency, uint8_t *at, int64_t window_counts[BANK_WINDOWS]) {
    const bank_rules *rules = history->rules;
    bank_history_seek(history, time_us);
    const track *amounts = tracks_of(history, currency); /* the first of them takes everything */
    uint32_t first = history->reached, length = 0;
    const uint8_t *before = NULL;
    at = WRITE(at, "{");
    /* From the shortest to the longest: each begins where the one before does, or earlier. */
    for (int32_t i = 0; i < rules->windows; i++) {
        int64_t after_us = bank_history_after(history, rules->length_us[i]);
        bool is_same = before != NULL;
        if (first && history->times[first - 1] > after_us) {
            first = later_near(history, after_us, history->starts[i], first);
            is_same = false;
        }
        history->starts[i] = first;
        if (i)
            at = WRITE(at, ",");
        at = WRITE(at, "\"");
        at = write_bytes(at, rules->name[i], strlen(rules->name[i]));
        at = WRITE(at, "\":");
        uint8_t *start = at;
        at = is_same ? write_bytes(at, before, length) : write_window(history, amounts, first, at);
        before = start;
        length = (uint32_t)(at - start);
        window_counts[i] =
            history->counted - (first == history->reached ? history->counted : history->entries[first].counted);
    }
    return WRITE(at, "}");
}

int64_t bank_history_windows(bank_history *history, int64_t time_us, uint64_t currency, uint8_t *json) {
    int64_t window_counts[BANK_WINDOWS];
    return history_windows(history, time_us, currency, json, window_counts) - json;
}

/* Tracks, from outside */

static const track *track_of(const bank_history *history, int selection, uint64_t currency) {
    static const track nothing = {NULL, NULL, 0, 0, 0, 0};
    const track *tracks = tracks_of(history, currency);
    return tracks == NULL ? &nothing : &tracks[selection];
}

int64_t bank_track_length(const bank_history *history, int selection, uint64_t currency) {
    return track_of(history, selection, currency)->count;
}

int64_t bank_track_after(const bank_history *history, int selection, uint64_t currency, int64_t after_us, int64_t end) {
    uint32_t position = later(history, after_us, 0, history->count);
    int64_t first = row_from(track_of(history, selection, currency), position) - 1;
    return first < end ? first : end;
}

int bank_track_event(
    const bank_history *history, int selection, uint64_t currency, int64_t position, bank_event *event) {
    const track *in = track_of(history, selection, currency);
    if (position < 0 || position >= in->count)
        return 0;
    *event = history->entries[in->rows[position + 1].position].event;
    return 1;
}

void bank_track_sum(
    const bank_history *history, int selection, uint64_t currency, int64_t first, int64_t *high, uint64_t *low) {
    const track *in = track_of(history, selection, currency);
    __int128 sum = in->count ? in->rows[in->count].sum - in->rows[first].sum : 0;
    *high = (int64_t)(sum >> 64);
    *low = (uint64_t)sum;
}

int history_has_amount(const bank_history *history, int32_t selection, uint64_t currency, int64_t length_us) {
    const track *in = track_of(history, selection, currency);
    return in->count && history->times[in->rows[in->count].position] > bank_history_after(history, length_us);
}

/* Life */

bank_history *bank_history_new(const bank_rules *rules) {
    bank_history *made = sized(NULL, 1, sizeof *made);
    memset(made, 0, sizeof *made);
    made->rules = rules;
    made->selections = rules->selections;
    made->floor_us = INT64_MIN;
    return made;
}

void bank_history_free(bank_history *history) {
    if (history == NULL)
        return;
    for (uint32_t i = 0; i < history->currency_count; i++) {
        for (int32_t j = 0; j < history->selections; j++) {
            free(history->currencies[i].tracks[j].rows);
            free(history->currencies[i].tracks[j].peaks);
        }
        free(history->currencies[i].tracks);
    }
    free(history->currencies);
    empty(&history->identities);
    distinct_clear(&history->counterparties);
    distinct_clear(&history->countries);
    free(history->counterparties.last);
    free(history->countries.last);
    for (uint32_t i = 0; i < history->text_count; i++)
        free(history->texts[i].bytes);
    free(history->texts);
    empty(&history->numbers);
    free(history->entries);
    free(history->times);
    free(history);
}
