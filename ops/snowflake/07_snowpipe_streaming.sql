-- Snowpipe Streaming: the third way into the same landing tables, chosen by BANKSTREAM_WAREHOUSE_SINK=streaming. After 04_grants.sql.
--   snow sql -f ops/snowflake/07_snowpipe_streaming.sql -D database=BANK
-- A pipe for each landing table; the warehouse worker opens a channel of it for each partition, and writes rows with one column, `record`.
-- A row that a pipe cannot take is passed over and counted: the worker stops that partition when it sees a count.

USE ROLE <% database %>_DEPLOYER;

CREATE PIPE IF NOT EXISTS <% database %>.BRONZE.ALERTS_STREAM AS
    COPY INTO <% database %>.BRONZE.ALERTS (record) FROM (SELECT $1:record FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')));
CREATE PIPE IF NOT EXISTS <% database %>.BRONZE.CDC_EVENTS_STREAM AS
    COPY INTO <% database %>.BRONZE.CDC_EVENTS (record) FROM (SELECT $1:record FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')));
CREATE PIPE IF NOT EXISTS <% database %>.BRONZE.DEAD_LETTERS_STREAM AS
    COPY INTO <% database %>.BRONZE.DEAD_LETTERS (record) FROM (SELECT $1:record FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')));
CREATE PIPE IF NOT EXISTS <% database %>.BRONZE.SCD2_ACCOUNTS_STREAM AS
    COPY INTO <% database %>.BRONZE.SCD2_ACCOUNTS (record) FROM (SELECT $1:record FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')));
CREATE PIPE IF NOT EXISTS <% database %>.BRONZE.SCD2_CUSTOMERS_STREAM AS
    COPY INTO <% database %>.BRONZE.SCD2_CUSTOMERS (record) FROM (SELECT $1:record FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')));
CREATE PIPE IF NOT EXISTS <% database %>.BRONZE.TRANSACTIONS_STREAM AS
    COPY INTO <% database %>.BRONZE.TRANSACTIONS (record) FROM (SELECT $1:record FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')));
CREATE PIPE IF NOT EXISTS <% database %>.BRONZE.VELOCITY_STREAM AS
    COPY INTO <% database %>.BRONZE.VELOCITY (record) FROM (SELECT $1:record FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')));

-- To open channels, send rows and see what is committed. INSERT on the tables is in 03_database.sql.
GRANT OPERATE, MONITOR ON ALL PIPES IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_LOADER;

SHOW PIPES IN SCHEMA <% database %>.BRONZE;
