-- Snowpipe, the serverless way into the warehouse: instead of the warehouse worker, not beside it. After 04_grants.sql.
--   snow sql -f ops/snowflake/05_snowpipe.sql -D database=BANK -D bucket=…
-- Notifications of a bucket tell Snowflake of each new object (SHOW PIPES names the queue, notification_channel, which they go to).
-- A pipe keeps its own memory of the objects it has loaded, apart from COPY's and from the ledger, and for 14 days only: an object that
-- is announced again later is loaded again. So its tables are its own, and what is read are views in which a record is there once.
-- A topic that was made anew has another second folder in its objects' names, so that its offsets are not taken for the old ones.

USE ROLE <% database %>_DEPLOYER;

CREATE SCHEMA IF NOT EXISTS <% database %>.PIPED WITH MANAGED ACCESS;

-- A stage of its own: a pipe no longer sees a stage that was replaced, and `bankstream provision warehouse` replaces BRONZE.LAKE.
CREATE STAGE IF NOT EXISTS <% database %>.PIPED.LAKE URL = 's3://<% bucket %>/' STORAGE_INTEGRATION = <% database %>_LAKE;

GRANT USAGE ON SCHEMA <% database %>.PIPED TO ROLE <% database %>_TRANSFORMER;
GRANT USAGE ON SCHEMA <% database %>.PIPED TO ROLE <% database %>_AUDITOR;
GRANT SELECT ON FUTURE VIEWS IN SCHEMA <% database %>.PIPED TO ROLE <% database %>_TRANSFORMER;
GRANT SELECT ON FUTURE TABLES IN SCHEMA <% database %>.PIPED TO ROLE <% database %>_AUDITOR;
GRANT SELECT ON FUTURE VIEWS IN SCHEMA <% database %>.PIPED TO ROLE <% database %>_AUDITOR;


CREATE TABLE IF NOT EXISTS <% database %>.PIPED.CDC_EVENTS_OBJECTS (record VARIANT, object VARCHAR, piped_at TIMESTAMP_LTZ);
CREATE VIEW IF NOT EXISTS <% database %>.PIPED.CDC_EVENTS AS
    SELECT record FROM <% database %>.PIPED.CDC_EVENTS_OBJECTS
    QUALIFY row_number() OVER (
        PARTITION BY record:topic::varchar, split_part(object, '/', -3), record:partition::number, record:offset::number
        ORDER BY piped_at
    ) = 1;
CREATE PIPE IF NOT EXISTS <% database %>.PIPED.CDC_CUSTOMERS_PIPE AUTO_INGEST = TRUE AS
    COPY INTO <% database %>.PIPED.CDC_EVENTS_OBJECTS (record, object, piped_at)
    FROM (SELECT $1, METADATA$FILENAME, METADATA$START_SCAN_TIME FROM @<% database %>.PIPED.LAKE/bank.public.customers/)
    FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD);
CREATE PIPE IF NOT EXISTS <% database %>.PIPED.CDC_ACCOUNTS_PIPE AUTO_INGEST = TRUE AS
    COPY INTO <% database %>.PIPED.CDC_EVENTS_OBJECTS (record, object, piped_at)
    FROM (SELECT $1, METADATA$FILENAME, METADATA$START_SCAN_TIME FROM @<% database %>.PIPED.LAKE/bank.public.accounts/)
    FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD);
CREATE PIPE IF NOT EXISTS <% database %>.PIPED.CDC_TRANSACTIONS_PIPE AUTO_INGEST = TRUE AS
    COPY INTO <% database %>.PIPED.CDC_EVENTS_OBJECTS (record, object, piped_at)
    FROM (SELECT $1, METADATA$FILENAME, METADATA$START_SCAN_TIME FROM @<% database %>.PIPED.LAKE/bank.public.transactions/)
    FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD);

CREATE TABLE IF NOT EXISTS <% database %>.PIPED.SCD2_CUSTOMERS_OBJECTS (record VARIANT, object VARCHAR, piped_at TIMESTAMP_LTZ);
CREATE VIEW IF NOT EXISTS <% database %>.PIPED.SCD2_CUSTOMERS AS
    SELECT record FROM <% database %>.PIPED.SCD2_CUSTOMERS_OBJECTS
    QUALIFY row_number() OVER (
        PARTITION BY record:topic::varchar, split_part(object, '/', -3), record:partition::number, record:offset::number
        ORDER BY piped_at
    ) = 1;
CREATE PIPE IF NOT EXISTS <% database %>.PIPED.SCD2_CUSTOMERS_PIPE AUTO_INGEST = TRUE AS
    COPY INTO <% database %>.PIPED.SCD2_CUSTOMERS_OBJECTS (record, object, piped_at)
    FROM (SELECT $1, METADATA$FILENAME, METADATA$START_SCAN_TIME FROM @<% database %>.PIPED.LAKE/bank.scd2.customers/)
    FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD);

CREATE TABLE IF NOT EXISTS <% database %>.PIPED.SCD2_ACCOUNTS_OBJECTS (record VARIANT, object VARCHAR, piped_at TIMESTAMP_LTZ);
CREATE VIEW IF NOT EXISTS <% database %>.PIPED.SCD2_ACCOUNTS AS
    SELECT record FROM <% database %>.PIPED.SCD2_ACCOUNTS_OBJECTS
    QUALIFY row_number() OVER (
        PARTITION BY record:topic::varchar, split_part(object, '/', -3), record:partition::number, record:offset::number
        ORDER BY piped_at
    ) = 1;
CREATE PIPE IF NOT EXISTS <% database %>.PIPED.SCD2_ACCOUNTS_PIPE AUTO_INGEST = TRUE AS
    COPY INTO <% database %>.PIPED.SCD2_ACCOUNTS_OBJECTS (record, object, piped_at)
    FROM (SELECT $1, METADATA$FILENAME, METADATA$START_SCAN_TIME FROM @<% database %>.PIPED.LAKE/bank.scd2.accounts/)
    FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD);

CREATE TABLE IF NOT EXISTS <% database %>.PIPED.TRANSACTIONS_OBJECTS (record VARIANT, object VARCHAR, piped_at TIMESTAMP_LTZ);
CREATE VIEW IF NOT EXISTS <% database %>.PIPED.TRANSACTIONS AS
    SELECT record FROM <% database %>.PIPED.TRANSACTIONS_OBJECTS
    QUALIFY row_number() OVER (
        PARTITION BY record:topic::varchar, split_part(object, '/', -3), record:partition::number, record:offset::number
        ORDER BY piped_at
    ) = 1;
CREATE PIPE IF NOT EXISTS <% database %>.PIPED.TRANSACTIONS_PIPE AUTO_INGEST = TRUE AS
    COPY INTO <% database %>.PIPED.TRANSACTIONS_OBJECTS (record, object, piped_at)
    FROM (SELECT $1, METADATA$FILENAME, METADATA$START_SCAN_TIME FROM @<% database %>.PIPED.LAKE/bank.transactions/)
    FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD);

CREATE TABLE IF NOT EXISTS <% database %>.PIPED.VELOCITY_OBJECTS (record VARIANT, object VARCHAR, piped_at TIMESTAMP_LTZ);
CREATE VIEW IF NOT EXISTS <% database %>.PIPED.VELOCITY AS
    SELECT record FROM <% database %>.PIPED.VELOCITY_OBJECTS
    QUALIFY row_number() OVER (
        PARTITION BY record:topic::varchar, split_part(object, '/', -3), record:partition::number, record:offset::number
        ORDER BY piped_at
    ) = 1;
CREATE PIPE IF NOT EXISTS <% database %>.PIPED.VELOCITY_PIPE AUTO_INGEST = TRUE AS
    COPY INTO <% database %>.PIPED.VELOCITY_OBJECTS (record, object, piped_at)
    FROM (SELECT $1, METADATA$FILENAME, METADATA$START_SCAN_TIME FROM @<% database %>.PIPED.LAKE/bank.velocity/)
    FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD);

CREATE TABLE IF NOT EXISTS <% database %>.PIPED.ALERTS_OBJECTS (record VARIANT, object VARCHAR, piped_at TIMESTAMP_LTZ);
CREATE VIEW IF NOT EXISTS <% database %>.PIPED.ALERTS AS
    SELECT record FROM <% database %>.PIPED.ALERTS_OBJECTS
    QUALIFY row_number() OVER (
        PARTITION BY record:topic::varchar, split_part(object, '/', -3), record:partition::number, record:offset::number
        ORDER BY piped_at
    ) = 1;
CREATE PIPE IF NOT EXISTS <% database %>.PIPED.ALERTS_PIPE AUTO_INGEST = TRUE AS
    COPY INTO <% database %>.PIPED.ALERTS_OBJECTS (record, object, piped_at)
    FROM (SELECT $1, METADATA$FILENAME, METADATA$START_SCAN_TIME FROM @<% database %>.PIPED.LAKE/bank.alerts/)
    FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD);

CREATE TABLE IF NOT EXISTS <% database %>.PIPED.DEAD_LETTERS_OBJECTS (record VARIANT, object VARCHAR, piped_at TIMESTAMP_LTZ);
CREATE VIEW IF NOT EXISTS <% database %>.PIPED.DEAD_LETTERS AS
    SELECT record FROM <% database %>.PIPED.DEAD_LETTERS_OBJECTS
    QUALIFY row_number() OVER (
        PARTITION BY record:topic::varchar, split_part(object, '/', -3), record:partition::number, record:offset::number
        ORDER BY piped_at
    ) = 1;
CREATE PIPE IF NOT EXISTS <% database %>.PIPED.DEAD_LETTERS_PIPE AUTO_INGEST = TRUE AS
    COPY INTO <% database %>.PIPED.DEAD_LETTERS_OBJECTS (record, object, piped_at)
    FROM (SELECT $1, METADATA$FILENAME, METADATA$START_SCAN_TIME FROM @<% database %>.PIPED.LAKE/bank.dead-letters/)
    FILE_FORMAT = (TYPE = JSON COMPRESSION = ZSTD);

-- The queue to which the bucket's notifications go, and what a pipe is doing.
SHOW PIPES IN SCHEMA <% database %>.PIPED;
