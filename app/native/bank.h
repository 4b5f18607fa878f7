/* Declares the functions of the native library: the histories of customers, and what is done with each transaction.
 *
 * A function that reads a record reads its common form: compact JSON, in which each value is written as msgspec writes it. Where it
 * answers 0 ("not in the common form") it has changed nothing; its caller then reads the record in Python, which says what is wrong with
 * it, or writes it in the common form for another call. The library does not know Python, keeps no pointer that it receives (except
 * bank_rules) and does no I/O. If memory cannot be allocated, the process ends: its work is committed in Kafka transactions, and
 * uncommitted work is repeated.
 *
 * Times are microseconds since 1970 in UTC, amounts are minor units, texts are UTF-8. */
#ifndef BANK_H
#define BANK_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)

/* The hash of the sources that this was built of. */
const char *bank_sources(void);

/* cffi: begin */
#define BANK_WINDOWS 8
#define BANK_SELECTIONS 32
#define BANK_CONCERNS 64

typedef struct {
    int64_t at_least_minor, at_most_minor;
    uint8_t credit, debit;
} bank_selection;

/* An amount of at least so much; a window with at least so many transactions, or -1; less than so long after an amount of a selection,
 * or -1. */
typedef struct {
    int64_t at_least_minor, count, after_us;
    int32_t window, after;
} bank_concern;

/* What histories are about. The first selection takes every amount. Of a transaction for which no concern holds, no rule has anything to
 * say. */
typedef struct {
    int64_t kept_us;
    int64_t length_us[BANK_WINDOWS];
    char name[BANK_WINDOWS][8]; /* ended by a zero */
    bank_selection selection[BANK_SELECTIONS];
    bank_concern concern[BANK_CONCERNS];
    int32_t windows, selections, concerns;
    uint32_t compact_at; /* so many expired events stay in memory before it is worth letting them go */
} bank_rules;

/* An event, as app/domain/events.py has it. Currency and country are words: a text of at most eight bytes without a zero, filled up with
 * zeros, or, for any other text, its number in the history and a last byte of 0xFF, which UTF-8 never has. A country of zeros is none, as
 * are a counterparty of 0 and a negative lsn. `fired` is the number of a text that the caller understands; 0 is none. */
typedef struct {
    int64_t time_us, account_id, transaction_id;
    int64_t amount_minor;
    uint64_t counterparty;
    int64_t lsn, offset;
    uint64_t currency, country;
    int32_t partition;
    uint32_t fired;
    uint8_t status, credit;
} bank_event;

typedef struct bank_history bank_history;

bank_history *bank_history_new(const bank_rules *rules);
void bank_history_free(bank_history *history);

/* How many events there are, and how much memory they take, in events: those that expired last may still be there. */
int64_t bank_history_length(const bank_history *history);
int64_t bank_history_size(const bank_history *history);
/* The word of a text, and the number of one, from 1 on. The history keeps each text once, as long as it lives. */
uint64_t bank_history_word(bank_history *history, const uint8_t *bytes, size_t length);
uint32_t bank_history_intern(bank_history *history, const uint8_t *bytes, size_t length);
/* The text of a number. */
const uint8_t *bank_history_text(const bank_history *history, uint32_t number, size_t *length);
/* What is no later does not exist. */
int64_t bank_history_floor(const bank_history *history);
/* The event at a place in the order of (time, account, transaction), or of an identity; 1 if there is one. */
int bank_history_event(const bank_history *history, int64_t place, bank_event *event);
int bank_history_find(const bank_history *history, int64_t account_id, int64_t transaction_id, bank_event *event);
/* Add an event, or correct the one of its identity. */
void bank_history_put(bank_history *history, const bank_event *event);
/* Take an event out; 0 if there is none of this identity. */
int bank_history_remove(bank_history *history, int64_t account_id, int64_t transaction_id);
/* The same for a transaction that was deleted: 2 if `marker` stays in its place, because rules have fired on it. */
int bank_history_forget(bank_history *history, int64_t account_id, int64_t transaction_id, bank_event *marker);
/* How many events are before a horizon. */
int64_t bank_history_before(const bank_history *history, int64_t horizon_us);
/* Drop them; `expired` has room for so many, or is NULL. */
void bank_history_expire(bank_history *history, int64_t horizon_us, bank_event *expired);
/* Move the cursor: tracks then hold what is counted up to and including this instant. */
void bank_history_seek(bank_history *history, int64_t time_us);
/* The open lower end of the window of this length that ends where the cursor is. */
int64_t bank_history_after(const bank_history *history, int64_t length_us);
/* The windows that end at an instant, as JSON: its length. Moves the cursor. At most 4,096 bytes. */
int64_t bank_history_windows(bank_history *history, int64_t time_us, uint64_t currency, uint8_t *json);
/* The event before a key that is not removed; 1 if there is one. */
int bank_history_previous(const bank_history *history, const bank_event *key, bank_event *event);
/* The newest counted events in (after, until], newest first: how many, at most `limit`. */
int64_t bank_history_latest_counted(
    const bank_history *history, int64_t until_us, int64_t after_us, int64_t limit, bank_event *events);

/* The amounts of a selection in a currency, up to the cursor, by position from 0: how many, the first of the first `end` that is later
 * than an instant, the event of one, and the sum from one on, as high * 2^64 + low. */
int64_t bank_track_length(const bank_history *history, int selection, uint64_t currency);
int64_t bank_track_after(const bank_history *history, int selection, uint64_t currency, int64_t after_us, int64_t end);
int bank_track_event(
    const bank_history *history, int selection, uint64_t currency, int64_t position, bank_event *event);
void bank_track_sum(
    const bank_history *history, int selection, uint64_t currency, int64_t first, int64_t *high, uint64_t *low);

/* A change of a transaction's row (Debezium's JSON without a schema; an insert, a snapshot's read or an update), joined to its account:
 * the length of the record for bank.transactions + 2^32 * its op ('c', 'r' or 'u'); 0 if this is not in the common form; if it needs more
 * than `room`, minus what it needs.
 *
 * `account_id` is that of the Kafka record's key, `account` the JSON of the account's attributes; `source` is `{"topic":"…","partition":…,"offset":`.
 * With `is_checked`, the values of the row are not looked at: the caller wrote them. What it comes to is at `out`, 8 bytes each: the row's
 * digest, transaction_id, lsn (negative: none); then the record, at most `room` bytes. */
int64_t bank_transaction(
    const uint8_t *value, size_t value_length, int64_t account_id, int is_checked, const uint8_t *account,
    size_t account_length, int64_t customer_id, const uint8_t *source, size_t source_length, int64_t offset, uint8_t *out,
    size_t room);

/* What a record of bank.transactions came to. `look`: what the rules have to do with it. */
enum { BANK_UNSEEN, BANK_QUIET, BANK_CONCERNED, BANK_UNKNOWN };
typedef struct {
    int64_t lsn; /* of the record; negative: none */
    uint32_t look;
    uint32_t expired; /* so many keys of events that expired are at BANK_EXPIRED, 32 bytes each */
    uint32_t json;    /* so long is the velocity record behind them; 0: there is none */
    uint32_t facts;   /* so long are the facts to store behind it, under `key`; 0: there is nothing to store */
    uint32_t gone;    /* whether the event of `gone_key` is no more */
    uint8_t key[32], gone_key[32];
} bank_screened;
#define BANK_EXPIRED 96

/* A record of bank.transactions of this customer (created, updated or deleted), applied to the history. 1 if it was; 0 if it is not in
 * the common form or of another customer; if it needs more than `room`, minus what it needs, and nothing has changed.
 *
 * look BANK_UNSEEN: the rules have nothing to do with it; BANK_QUIET: no rule has anything to say; BANK_CONCERNED: rules have to be
 * asked; BANK_UNKNOWN: it is not known which rules have fired on it before, so none may be asked. */
int64_t bank_velocity(
    bank_history *history, const uint8_t *value, size_t value_length, int64_t customer_id, uint8_t *out, size_t room);
/* cffi: end */

#pragma GCC visibility pop

#endif
