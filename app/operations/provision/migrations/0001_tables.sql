-- The bank's tables. Run by the owner.
--
-- The keys are named customer_id, account_id and transaction_id, not id: the key of an account's change and that of its
-- transactions' changes are then the same bytes in Kafka, {"account_id":N}, which puts them on the same partition.

CREATE TABLE customers (
    customer_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    email text,
    phone text,
    date_of_birth date,
    address_line text,
    city text,
    country_code char(2) NOT NULL CHECK (country_code ~ '^[A-Z]{2}$'),
    kyc_status text NOT NULL DEFAULT 'pending' CHECK (kyc_status IN ('pending', 'verified', 'rejected', 'expired')),
    risk_rating text NOT NULL DEFAULT 'low' CHECK (risk_rating IN ('low', 'medium', 'high')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE accounts (
    account_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    type text NOT NULL CHECK (type IN ('checking', 'savings', 'credit_card', 'business')),
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'frozen', 'dormant', 'closed')),
    balance numeric(18, 2) NOT NULL DEFAULT 0,
    opened_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX accounts_customer_id ON accounts (customer_id);

CREATE TABLE transactions (
    transaction_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts,
    type text NOT NULL CHECK (type IN ('credit', 'debit')),
    amount numeric(18, 2) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'posted', 'reversed', 'declined')),
    channel text NOT NULL CHECK (channel IN ('card', 'online', 'transfer', 'atm', 'branch', 'direct_debit')),
    merchant_id text,
    merchant_category char(4) CHECK (merchant_category ~ '^[0-9]{4}$'),
    counterparty_account text,
    country_code char(2) CHECK (country_code ~ '^[A-Z]{2}$'),
    latitude numeric(9, 6) CHECK (latitude BETWEEN -90 AND 90),
    longitude numeric(9, 6) CHECK (longitude BETWEEN -180 AND 180),
    device_id text,
    description text,
    booked_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX transactions_account_id ON transactions (account_id, booked_at);

-- With the default identity a DELETE carries the key alone. A transaction's change is keyed by its account, which is not its
-- primary key: it would reach Kafka as account 0, and a change of account would not be seen as leaving the old one.
ALTER TABLE customers REPLICA IDENTITY FULL;
ALTER TABLE accounts REPLICA IDENTITY FULL;
ALTER TABLE transactions REPLICA IDENTITY FULL;
