-- Who may do what: the least that each role needs. Run by the owner after every migration, as a whole; it may be run at any time.
-- By hand: psql -v app=bank_app -v replication=bank_replication -v reader=bank_reader -f privileges.sql

REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, :"app", :"replication", :"reader";
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, :"app", :"replication", :"reader";
GRANT USAGE ON SCHEMA public TO :"app", :"replication", :"reader";

-- the bank's own software
GRANT SELECT, INSERT, UPDATE, DELETE ON customers, accounts, transactions TO :"app";
GRANT SELECT, INSERT ON fraud_labels TO :"app";
GRANT USAGE ON SEQUENCE customers_customer_id_seq, accounts_account_id_seq, transactions_transaction_id_seq TO :"app";
GRANT SELECT, UPDATE (marker) ON heartbeat TO :"app";

-- Debezium: reads what it captures, and beats
GRANT SELECT ON customers, accounts, transactions, heartbeat TO :"replication";
GRANT UPDATE (beat_at) ON heartbeat TO :"replication";

-- reconcile and people who look: nothing but reading
GRANT SELECT ON ALL TABLES IN SCHEMA public TO :"reader";
