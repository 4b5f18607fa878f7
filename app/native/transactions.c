/* Reads a change of a transaction's row and writes the record of the transaction, joined to its account. The common form of a change is an
 * insert or an update whose columns are all written as PostgreSQL and Debezium write them. */
#include "bank.h"
#include "text.h"

enum column {
    TRANSACTION_ID,
    ACCOUNT_ID,
    TYPE,
    AMOUNT,
    CURRENCY,
    STATUS,
    BOOKED_AT, /* the last required column */
    CHANNEL,
    MERCHANT_ID,
    MERCHANT_CATEGORY,
    COUNTERPARTY,
    COUNTRY,
    LATITUDE,
    LONGITUDE,
    DEVICE_ID,
    DESCRIPTION,
    CREATED_AT,
    COLUMNS
};

#define REQUIRED ((1u << CHANNEL) - 1)
#define OTHERS 32

static const struct {
    const char *name;
    size_t length;
} NAMES[COLUMNS] = {
#define NAME(column, text) [column] = {text, sizeof(text) - 1}
    NAME(TRANSACTION_ID, "transaction_id"),
    NAME(ACCOUNT_ID, "account_id"),
    NAME(TYPE, "type"),
    NAME(AMOUNT, "amount"),
    NAME(CURRENCY, "currency"),
    NAME(STATUS, "status"),
    NAME(BOOKED_AT, "booked_at"),
    NAME(CHANNEL, "channel"),
    NAME(MERCHANT_ID, "merchant_id"),
    NAME(MERCHANT_CATEGORY, "merchant_category"),
    NAME(COUNTERPARTY, "counterparty_account"),
    NAME(COUNTRY, "country_code"),
    NAME(LATITUDE, "latitude"),
    NAME(LONGITUDE, "longitude"),
    NAME(DEVICE_ID, "device_id"),
    NAME(DESCRIPTION, "description"),
    NAME(CREATED_AT, "created_at"),
#undef NAME
};

typedef struct {
    slice whole;
    slice columns[COLUMNS]; /* as written, texts with their quotes; start is NULL if missing */
    int64_t transaction_id;
    bool may_lack; /* an update may lack a large value that it did not change */
} row;

typedef struct {
    slice table;
    int64_t lsn, tx_id, ts_us, ts_ms;
    bool has_tx_id, has_us, has_ms;
} origin;

/* Returns the column of a name, -1 if there is none. Rows usually have the columns in the order of NAMES: the search starts at `guess`. */
static int column_of(slice name, int guess) {
    for (int i = 0; i < COLUMNS; i++) {
        int column = (guess + i) % COLUMNS;
        if (is(name, NAMES[column].name, NAMES[column].length))
            return column;
    }
    return -1;
}

/* Returns whether this is Debezium's placeholder for a large value that an update did not change, as text or as bytes (base64). */
static bool is_unavailable(slice text) {
    return IS(text, "\"__debezium_unavailable_value\"") || IS(text, "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"");
}

static bool read_row(cursor *in, row *it) {
    slice others[OTHERS], name, written;
    int other_count = 0, guess = 0;
    uint32_t seen = 0;
    it->whole.start = in->at;
    if (!TAKE(in, "{"))
        return false;
    do {
        if (!plain(in, &name) || !TAKE(in, ":"))
            return false;
        written.start = in->at;
        if (!value(in))
            return false;
        written.length = (size_t)(in->at - written.start);
        it->may_lack |= *written.start == '{' || *written.start == '[' || is_unavailable(written);
        int column = column_of(name, guess);
        if (column >= 0) {
            if (seen & 1u << column)
                return false;
            seen |= 1u << column;
            it->columns[column] = written;
            guess = column + 1;
            continue;
        }
        for (int i = 0; i < other_count; i++)
            if (is(name, (const char *)others[i].start, others[i].length))
                return false;
        if (other_count == OTHERS)
            return false;
        others[other_count++] = name;
    } while (TAKE(in, ","));
    it->whole.length = (size_t)(in->at + 1 - it->whole.start);
    return TAKE(in, "}") && (seen & REQUIRED) == REQUIRED;
}

static bool read_origin(cursor *in, origin *it) {
    slice name;
    uint32_t seen = 0;
    *it = (origin){.lsn = -1};
    if (!TAKE(in, "{"))
        return false;
    do {
        uint32_t field = 0;
        bool was_read;
        if (!plain(in, &name) || !TAKE(in, ":"))
            return false;
        if (IS(name, "table"))
            field = 1, was_read = plain(in, &it->table);
        else if (IS(name, "lsn"))
            field = 2, was_read = TAKE(in, "null") || (integer(in, &it->lsn) && it->lsn >= 0);
        else if (IS(name, "txId"))
            field = 4, was_read = TAKE(in, "null") || (it->has_tx_id = integer(in, &it->tx_id));
        else if (IS(name, "ts_us"))
            field = 8, was_read = TAKE(in, "null") || (it->has_us = integer(in, &it->ts_us));
        else if (IS(name, "ts_ms"))
            field = 16, was_read = TAKE(in, "null") || (it->has_ms = integer(in, &it->ts_ms));
        else if (IS(name, "snapshot")) /* not used for transactions */
            field = 32, was_read = TAKE(in, "null") || TAKE(in, "true") || TAKE(in, "false") || plain(in, &name);
        else
            was_read = value(in);
        if (!was_read || seen & field)
            return false;
        seen |= field;
    } while (TAKE(in, ","));
    return TAKE(in, "}");
}

/* A text, without its quotes. */
static bool text_in(slice written, slice *text) {
    cursor in = {written.start, written.start + written.length};
    return written.start != NULL && json_text(&in, text) && in.at == in.end;
}

static bool is_null(slice written) {
    return written.start == NULL || IS(written, "null");
}

static bool is_coordinate(slice text) {
    const uint8_t *at = text.start, *end = at + text.length, *digits;
    at += at < end && *at == '-';
    for (digits = at; at < end && *at >= '0' && *at <= '9'; at++)
        ;
    if (at - digits < 1 || at - digits > 3 || at == end || *at++ != '.')
        return false;
    for (digits = at; at < end && *at >= '0' && *at <= '9'; at++)
        ;
    return at == end && at - digits >= 1 && at - digits <= 18;
}

static bool is_integer(slice written, int64_t *number) {
    cursor in = {written.start, written.start + written.length};
    return integer(&in, number) && in.at == in.end;
}

/* Returns whether the row is of this account and every column can be copied to the record as it is. */
static bool is_common(row *it, int64_t account_id) {
    slice text;
    int64_t number;
    if (!is_integer(it->columns[TRANSACTION_ID], &it->transaction_id) ||
        !is_integer(it->columns[ACCOUNT_ID], &number) || number != account_id)
        return false;
    if (!IS(it->columns[TYPE], "\"credit\"") && !IS(it->columns[TYPE], "\"debit\""))
        return false;
    if (!text_in(it->columns[AMOUNT], &text) || !amount(text, &number) || number == 0)
        return false;
    if (!text_in(it->columns[BOOKED_AT], &text) || !instant(text, &number))
        return false;
    if (!is_null(it->columns[CREATED_AT]) && (!text_in(it->columns[CREATED_AT], &text) || !instant(text, &number)))
        return false;
    if (!text_in(it->columns[CURRENCY], &text) || !text_in(it->columns[STATUS], &text))
        return false;
    for (int column = CHANNEL; column < CREATED_AT; column++) {
        if (is_null(it->columns[column]))
            continue;
        if (!text_in(it->columns[column], &text))
            return false;
        if ((column == LATITUDE || column == LONGITUDE) && !is_coordinate(text))
            return false;
    }
    return true;
}

/* Reads the envelope. Returns 'c', 'r' or 'u' for an insert, snapshot read or update with a row and a source, else 0. */
static char read_envelope(const uint8_t *bytes, size_t length, row *after, origin *from) {
    cursor stream = {bytes, bytes + length}, *in = &stream;
    slice name, text;
    uint32_t seen = 0;
    char operation = 0;
    if (!is_utf8(bytes, length) || !TAKE(in, "{"))
        return 0;
    do {
        uint32_t field = 0;
        bool was_read;
        if (!plain(in, &name) || !TAKE(in, ":"))
            return 0;
        if (IS(name, "before"))
            field = 1, was_read = TAKE(in, "null") || (in->at < in->end && *in->at == '{' && value(in));
        else if (IS(name, "after"))
            field = 2, was_read = read_row(in, after);
        else if (IS(name, "source"))
            field = 4, was_read = read_origin(in, from);
        else if (IS(name, "op")) {
            field = 8;
            was_read = plain(in, &text) && (IS(text, "c") || IS(text, "r") || IS(text, "u"));
            operation = was_read ? (char)*text.start : 0;
        } else
            was_read = !IS(name, "schema") && !IS(name, "payload") && value(in);
        if (!was_read || seen & field)
            return 0;
        seen |= field;
    } while (TAKE(in, ","));
    if (!TAKE(in, "}") || in->at != in->end || (seen & 14) != 14)
        return 0;
    return operation == 'u' && after->may_lack ? 0 : operation;
}

static uint8_t *write_column(uint8_t *at, slice written) {
    return written.start == NULL ? WRITE(at, "null") : write_slice(at, written);
}

static uint8_t *write_number(uint8_t *at, int64_t number) {
    memcpy(at, &number, sizeof number);
    return at + sizeof number;
}

int64_t bank_transaction(
    const uint8_t *value, size_t value_length, int64_t account_id, int is_checked, const uint8_t *account,
    size_t account_length, int64_t customer_id, const uint8_t *source, size_t source_length, int64_t offset,
    uint8_t *out, size_t room) {
    row it = {0};
    origin from;
    size_t needed = value_length + account_length + source_length + 1024; /* no column is longer in the record */
    if (needed > room)
        return -(int64_t)needed;
    char operation = read_envelope(value, value_length, &it, &from);
    if (!operation || (!is_checked && !is_common(&it, account_id)) || from.table.start == NULL ||
        !IS(from.table, "transactions") || (!from.has_us && !from.has_ms))
        return 0;
    int64_t commit_us = from.ts_us;
    if (!from.has_us && __builtin_mul_overflow(from.ts_ms, 1000, &commit_us))
        return 0;
    if (commit_us < MIN_US || commit_us > MAX_US)
        return 0;

    blake2b_8(it.whole.start, it.whole.length, out);
    uint8_t *at = write_number(out + 8, it.transaction_id);
    uint8_t *start = at = write_number(at, from.lsn);
    at = operation == 'u' ? WRITE(at, "{\"op\":\"updated\",\"transaction_id\":")
                          : WRITE(at, "{\"op\":\"created\",\"transaction_id\":");
    at = write_slice(at, it.columns[TRANSACTION_ID]);
    at = WRITE(at, ",\"account_id\":");
    at = write_slice(at, it.columns[ACCOUNT_ID]);
    at = WRITE(at, ",\"customer_id\":");
    at = write_integer(at, customer_id);
#define COLUMN(name, column) at = write_column(WRITE(at, ",\"" name "\":"), it.columns[column])
    COLUMN("type", TYPE);
    COLUMN("amount", AMOUNT);
    COLUMN("currency", CURRENCY);
    COLUMN("status", STATUS);
    COLUMN("channel", CHANNEL);
    COLUMN("merchant_id", MERCHANT_ID);
    COLUMN("merchant_category", MERCHANT_CATEGORY);
    COLUMN("counterparty_account", COUNTERPARTY);
    COLUMN("country_code", COUNTRY);
    COLUMN("latitude", LATITUDE);
    COLUMN("longitude", LONGITUDE);
    COLUMN("device_id", DEVICE_ID);
    COLUMN("description", DESCRIPTION);
    COLUMN("booked_at", BOOKED_AT);
    COLUMN("created_at", CREATED_AT);
#undef COLUMN
    at = WRITE(at, ",\"account\":");
    at = write_bytes(at, account, account_length);
    at = WRITE(at, ",\"source\":");
    at = write_bytes(at, source, source_length);
    at = write_integer(at, offset);
    at = WRITE(at, ",\"lsn\":");
    at = from.lsn >= 0 ? write_integer(at, from.lsn) : WRITE(at, "null");
    at = WRITE(at, ",\"tx_id\":");
    at = from.has_tx_id ? write_integer(at, from.tx_id) : WRITE(at, "null");
    at = WRITE(at, ",\"commit_time\":\"");
    at = write_instant(at, commit_us);
    at = WRITE(at, "\"}}");
    return (at - start) | (int64_t)operation << 32;
}
