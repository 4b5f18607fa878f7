/* Declares the functions that app/native calls to process a common transaction in C. Python is the reference implementation and
 * processes everything that is not common.
 *
 * A function that returns 0 ("not common") has changed nothing; its caller then uses Python. The library does not know Python, keeps
 * no pointer that it receives (except bank_rules) and does no I/O. If memory cannot be allocated, the process ends: its work is
 * committed in Kafka transactions, and uncommitted work is repeated.
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
#define BANK_EXPIRED 32

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
    uint32_t compact_at; /* compaction starts only with more expired events in memory than this */
} bank_rules;

/* An event, as in app/domain/events.py. Currency and country are texts of at most eight bytes, padded with zeros. Country 0,
 * counterparty 0 and a negative lsn mean none. `fired` is the caller's number for a list of fired rules; 0 is the empty list. */
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

/* The number of events, and the number in memory, which may include expired events. */
int64_t bank_history_length(const bank_history *history);
int64_t bank_history_size(const bank_history *history);
/* The history has no events at or before this time. */
int64_t bank_history_floor(const bank_history *history);
/* Copy the event at a place in the order of (time, account, transaction), or the event of this account and transaction. Return 1 if it
 * exists, else 0. */
int bank_history_event(const bank_history *history, int64_t place, bank_event *event);
int bank_history_find(const bank_history *history, int64_t account_id, int64_t transaction_id, bank_event *event);
/* Adds an event, or replaces the event of the same account and transaction. */
void bank_history_put(bank_history *history, const bank_event *event);
/* Removes the event of this account and transaction. Returns 0 if there is none. */
int bank_history_remove(bank_history *history, int64_t account_id, int64_t transaction_id);
/* Returns the number of events before a horizon. */
int64_t bank_history_before(const bank_history *history, int64_t horizon_us);
/* Drops the events before a horizon and copies them to `expired`, which must have room for all of them. */
void bank_history_expire(bank_history *history, int64_t horizon_us, bank_event *expired);
/* Moves the cursor: the tracks then cover the counted events up to and including this instant. */
void bank_history_seek(bank_history *history, int64_t time_us);
/* Returns the open lower end of the window of this length that ends at the cursor. */
int64_t bank_history_after(const bank_history *history, int64_t length_us);
/* Writes the windows that end at an instant as JSON, at most 4,096 bytes, and returns the length. Moves the cursor. */
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

/* Of the amounts of a selection in a currency in (after, end], where `end` is where bank_history_seek or bank_history_windows was last:
 * their number, and their sum as high * 2^64 + low; and their events, the newest first, at most `limit`, whose number is returned. */
int64_t bank_history_amounts(
    const bank_history *history, int selection, uint64_t currency, int64_t after_us, int64_t *high, uint64_t *low);
int64_t bank_history_latest_amounts(
    const bank_history *history, int selection, uint64_t currency, int64_t after_us, int64_t limit, bank_event *events);

/* Joins a change of a transaction's row to its account. The change is Debezium's JSON without a schema: an insert, a snapshot read or an
 * update. Returns 0 if the change is not common, else the length of the record for bank.transactions + 2^32 * the change's op ('c', 'r'
 * or 'u').
 *
 * `account_id` is from the key of the Kafka record. `account` is the JSON of the account's attributes. `source` is
 * `{"topic":"…","partition":…,"offset":`. `out` has `room` bytes. The result there is, in 8 bytes each, the digest of the row,
 * transaction_id and lsn (negative: none), and then the record. */
int64_t bank_transaction(
    const uint8_t *value, size_t value_length, int64_t account_id, const uint8_t *account, size_t account_length,
    int64_t customer_id, const uint8_t *source, size_t source_length, int64_t offset, uint8_t *out, size_t room);

/* Applies a record of bank.transactions to the history of this customer. Returns 0 if the record is not common or is of another
 * customer, else
 *
 *   length of the velocity record's JSON + 2^16 * length of the stored facts + 2^24 * number of expired events + 2^32 * look
 *   + 2^34 * number of events in memory, at most 2^28
 *
 * look is 0 if the rules do not apply, 1 if no rule fires, 2 if the rules must be evaluated. `out` has the stored key (32 bytes) at 0,
 * the facts at BANK_FACTS, the stored keys of the expired events at BANK_GONE, and the record at BANK_JSON. `truncated_lsn` is the lsn of
 * the last TRUNCATE; negative if there was none. */
#define BANK_FACTS 32
#define BANK_GONE 160
#define BANK_JSON 1184
#define BANK_VELOCITY_ROOM 8192
int64_t bank_velocity(
    bank_history *history, const uint8_t *value, size_t value_length, int64_t customer_id, int64_t truncated_lsn,
    uint8_t *out);
/* cffi: end */

#pragma GCC visibility pop

#endif
