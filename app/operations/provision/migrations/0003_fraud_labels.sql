-- Which transactions the simulated bank made as fraud. It is the truth that alerts are measured by, and so is not captured.
-- No foreign key: a label outlives its transaction, and TRUNCATE of transactions stays possible.

CREATE TABLE fraud_labels (
    transaction_id bigint PRIMARY KEY,
    pattern text NOT NULL CHECK (pattern IN ('card_testing', 'velocity_burst', 'large_amount')),
    pattern_id text NOT NULL,
    customer_id bigint NOT NULL,
    account_id bigint NOT NULL,
    completes boolean NOT NULL,
    labelled_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN fraud_labels.pattern_id IS 'The same for all transactions of one fraud.';
COMMENT ON COLUMN fraud_labels.completes IS 'Whether the fraud shows with this transaction at the latest: an alert is expected by then.';
CREATE INDEX fraud_labels_pattern_id ON fraud_labels (pattern_id);
