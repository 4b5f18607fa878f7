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

/* Returns the hash of the sources from which the library was built. */
const char *bank_sources(void);

/* cffi: begin */
#define BANK_WINDOWS 8
#define BANK_SELECTIONS 32
#define BANK_CONCERNS 64

typedef struct {
    int64_t at_least_minor, at_most_minor;
    uint8_t credit, debit;
} bank_selection;

/* A `Prefilter` of app/domain/rules/rule.py: a minimum amount of the transaction; a window with at least `count` transactions (`window`
 * -1: no such condition); an amount of the selection `after` in the `after_us` up to the transaction (`after` -1: no such condition). */
typedef struct {
    int64_t at_least_minor, count, after_us;
    int32_t window, after;
} bank_concern;

/* The configuration of histories. The first selection matches every amount. If no concern matches a transaction, no rule fires on it. */
typedef struct {
    int64_t kept_us;
    int64_t length_us[BANK_WINDOWS];
    char name[BANK_WINDOWS][8]; /* zero-terminated */
    bank_selection selection[BANK_SELECTIONS];
    bank_concern concern[BANK_CONCERNS];
    int32_t windows, selections, concerns;
    /* A block of a history, and a chunk of a short stored one, that has so many events is full. */
    uint32_t block_events, chunk_events;
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

/* The number of events, and the memory that the history takes in bytes. */
int64_t bank_history_length(const bank_history *history);
int64_t bank_history_bytes(const bank_history *history);
/* The word of a text, and the number of one, from 1 on. The history keeps each text once, as long as it lives. */
uint64_t bank_history_word(bank_history *history, const uint8_t *bytes, size_t length);
uint32_t bank_history_intern(bank_history *history, const uint8_t *bytes, size_t length);
/* The text of a number. */
const uint8_t *bank_history_text(const bank_history *history, uint32_t number, size_t *length);
/* The history has no events at or before this time. */
int64_t bank_history_floor(const bank_history *history);
/* Copies at most `limit` events in the order of (time, account, transaction) from a place on, and returns their number. */
int64_t bank_history_events(const bank_history *history, int64_t place, int64_t limit, bank_event *events);
/* Copies the newest event. Returns 0 if there is none. */
int bank_history_newest(const bank_history *history, bank_event *event);
/* Copies the event of this account and transaction. Returns 0 if there is none. */
int bank_history_find(const bank_history *history, int64_t account_id, int64_t transaction_id, bank_event *event);
/* Adds an event, or replaces the event of the same account and transaction. */
void bank_history_put(bank_history *history, const bank_event *event);
/* Removes the event of this account and transaction. Returns 0 if there is none. */
int bank_history_remove(bank_history *history, int64_t account_id, int64_t transaction_id);
/* Removes the event of a deleted transaction. Returns 0 if there is none, and 2 if `marker` stays in its place, because rules have fired. */
int bank_history_forget(bank_history *history, int64_t account_id, int64_t transaction_id, bank_event *marker);
/* Returns the number of events before a horizon. */
int64_t bank_history_before(const bank_history *history, int64_t horizon_us);
/* Drops the events before a horizon and copies them to `expired`, which has room for all of them, or is NULL. */
void bank_history_expire(bank_history *history, int64_t horizon_us, bank_event *expired);
/* Sets the end of what is asked of amounts: this instant, included. */
void bank_history_seek(bank_history *history, int64_t time_us);
/* Returns the open lower end of the window of this length that ends there. */
int64_t bank_history_after(const bank_history *history, int64_t length_us);
/* Writes the windows that end at an instant as JSON, at most 4,096 bytes, and returns the length. Sets the end too. */
int64_t bank_history_windows(bank_history *history, int64_t time_us, uint64_t currency, uint8_t *json);
/* Copies the last event before a key whose status is not REMOVED. Returns 1 if it exists, else 0. */
int bank_history_previous(const bank_history *history, const bank_event *key, bank_event *event);
/* Copies the newest counted events in (after, until], newest first, at most `limit`, and returns their number. */
int64_t bank_history_latest_counted(
    const bank_history *history, int64_t until_us, int64_t after_us, int64_t limit, bank_event *events);

/* Adds the events of a stored chunk behind all others: its key and its value, of whose events the first `expired` have expired. Chunks come
 * in the order of their keys. Returns 0 if it is damaged: then the history must not be used. */
int bank_history_load(
    bank_history *history, const uint8_t *key, const uint8_t *value, size_t value_length, uint32_t expired);
/* Writes the changes that bring the store up to date with the history, and returns their length, or, if they need more room, that number
 * negative. A change is the length of the key and of the value (2^32 - 1: delete the key) in 4 bytes each, the key, and the value. */
int64_t bank_history_changes(bank_history *history, int64_t customer_id, uint8_t *out, size_t room);

/* Both are about the amounts of a selection in a currency in (after, end]. The first returns their number, and their sum as high * 2^64 +
 * low. The second copies their events, the newest first, at most `limit`, and returns the number of those. */
int64_t bank_history_amounts(
    const bank_history *history, int selection, uint64_t currency, int64_t after_us, int64_t *high, uint64_t *low);
int64_t bank_history_latest_amounts(
    const bank_history *history, int selection, uint64_t currency, int64_t after_us, int64_t limit, bank_event *events);

/* A change of a transaction's row (Debezium's JSON without a schema; an insert, a snapshot's read or an update), joined to its account:
 * the length of the record for bank.transactions + 2^32 * its op ('c', 'r' or 'u'); 0 if this is not in the common form; if it needs more
 * than `room`, minus what it needs.
 *
 * `account_id` is that of the Kafka record's key, `account` the JSON of the account's attributes; `source` is `{"topic":"…","partition":…,"offset":`.
 * With `is_checked`, the values of the row are not looked at: the caller wrote them. What it comes to is at `out`, 8 bytes each: the row's
 * digest, transaction_id, lsn (negative: none); then the record, at most `room` bytes. */
int64_t bank_transaction(
    const uint8_t *value, size_t value_length, int64_t account_id, int is_checked, const uint8_t *account,
    size_t account_length, int64_t customer_id, const uint8_t *source, size_t source_length, int64_t offset,
    uint8_t *out, size_t room);

/* What a record of bank.transactions came to. `look`: what the rules have to do with it. */
enum { BANK_UNSEEN, BANK_QUIET, BANK_CONCERNED, BANK_UNKNOWN };
typedef struct {
    int64_t lsn; /* of the record; negative: none */
    uint32_t look;
    uint32_t json;  /* so long is the velocity record at BANK_JSON; 0: there is none */
    uint32_t facts; /* so long are the facts to store behind it, under `key`; 0: there is nothing to store */
    uint32_t gone;  /* whether the event of `gone_key` is no more */
    uint8_t key[32], gone_key[32];
} bank_screened;
#define BANK_JSON 88

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
