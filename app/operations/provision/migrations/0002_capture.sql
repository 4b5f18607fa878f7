-- What change data capture needs: the heartbeat, and the publication of exactly the captured tables.

CREATE TABLE heartbeat (
    id smallint PRIMARY KEY CHECK (id = 1),
    beat_at timestamptz NOT NULL DEFAULT now(),
    marker text
);
COMMENT ON TABLE heartbeat IS
    'One row. The connector updates beat_at, so that its slot advances while the other tables are idle; marker is a word that a program '
    'puts into the log, to know when it has come out at the other end.';
INSERT INTO heartbeat (id) VALUES (1);

CREATE PUBLICATION bank FOR TABLE customers, accounts, transactions, heartbeat;
