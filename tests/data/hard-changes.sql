-- Changes that are hard to read, run by tests/support/capture_cdc.py as the tables' owner; a blank line ends each step.

-- one customer with everything and one with nothing
INSERT INTO customers (name, email, phone, date_of_birth, address_line, city, country_code, kyc_status, risk_rating) VALUES
    (E'Zoë \n "Q" O''Hara \\ 🦊', '', '+49', '1815-12-10', 'Straße 1', 'Αθήνα', 'GR', 'verified', 'high'),
    ('Null Person', NULL, NULL, NULL, NULL, NULL, 'DE', 'pending', 'low');

INSERT INTO accounts (customer_id, type, currency, balance)
    SELECT customer_id, 'checking', 'EUR', 0 FROM customers WHERE name = 'Null Person';

-- values at their limits; three rows of one statement
INSERT INTO transactions (account_id, type, amount, currency, channel, booked_at) VALUES
    (1, 'debit', 9999999999999999.99, 'EUR', 'branch', now()),
    (1, 'credit', 0.01, 'EUR', 'card', 'infinity'),
    (1, 'debit', 1.00, 'EUR', 'card', '9999-12-31 23:59:59.999999+00');

-- an update that changes nothing, NULL and '', a day before Christ, untracked columns only
UPDATE customers SET city = city WHERE name = 'Null Person';

UPDATE customers SET email = '' WHERE name = 'Null Person';

UPDATE customers SET email = NULL, date_of_birth = '0044-03-15 BC' WHERE name = 'Null Person';

UPDATE accounts SET balance = balance + 0.10, updated_at = now() WHERE account_id = 1;

-- the same row twice in one transaction; a delete that is followed by the same key
BEGIN;
UPDATE customers SET risk_rating = 'medium' WHERE customer_id = 1;
UPDATE customers SET risk_rating = 'high' WHERE customer_id = 1;
COMMIT;

BEGIN;
DELETE FROM transactions WHERE account_id = 2;
DELETE FROM accounts WHERE account_id = 2;
INSERT INTO accounts (account_id, customer_id, type, currency) OVERRIDING SYSTEM VALUE VALUES (2, 1, 'savings', 'EUR');
COMMIT;

-- keys that change: a customer's own, the account of a transaction, the owner of an account
UPDATE customers SET customer_id = DEFAULT WHERE name LIKE '%🦊';

UPDATE transactions SET account_id = 1
    WHERE transaction_id = (SELECT min(transaction_id) FROM transactions WHERE account_id <> 1);

UPDATE accounts SET customer_id = 1 WHERE account_id = 3;

-- columns that come and go
ALTER TABLE customers ADD COLUMN nickname text;

UPDATE customers SET nickname = 'Ada' WHERE customer_id = 1;

ALTER TABLE customers DROP COLUMN nickname;

UPDATE customers SET name = 'Ada Lovelace' WHERE customer_id = 1;

-- a transaction that is undone
BEGIN;
DELETE FROM transactions;
UPDATE customers SET name = 'Nobody';
ROLLBACK;

TRUNCATE transactions;

INSERT INTO transactions (account_id, type, amount, currency, channel, booked_at) VALUES
    (1, 'debit', 12.50, 'EUR', 'card', now()),
    (1, 'credit', 3.00, 'EUR', 'transfer', now() - interval '1 hour');

-- the last one, which ends the capture
UPDATE heartbeat SET marker = 'end of the capture' WHERE id = 1;
