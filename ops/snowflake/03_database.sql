-- Database, schemas and who may do what in them, before `bankstream provision warehouse` makes tables and stage. May be run again.
--   snow sql -f ops/snowflake/03_database.sql -D database=BANK
-- In a schema with managed access only its owner grants: an owner of a table in it cannot hand it on.

USE ROLE <% database %>_DEPLOYER;

CREATE DATABASE IF NOT EXISTS <% database %> DATA_RETENTION_TIME_IN_DAYS = 1;
CREATE SCHEMA IF NOT EXISTS <% database %>.BRONZE WITH MANAGED ACCESS;
CREATE SCHEMA IF NOT EXISTS <% database %>.SILVER WITH MANAGED ACCESS;
CREATE SCHEMA IF NOT EXISTS <% database %>.GOLD WITH MANAGED ACCESS;

-- The loader appends: it can neither change nor remove a landing row. (The ledger is in 04_grants.sql.)
GRANT USAGE ON DATABASE <% database %> TO ROLE <% database %>_LOADER;
GRANT USAGE ON SCHEMA <% database %>.BRONZE TO ROLE <% database %>_LOADER;
GRANT SELECT, INSERT ON FUTURE TABLES IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_LOADER;
GRANT USAGE ON FUTURE STAGES IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_LOADER;
GRANT USAGE ON FUTURE FILE FORMATS IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_LOADER;

-- dbt reads bronze, and owns what it makes.
GRANT USAGE ON DATABASE <% database %> TO ROLE <% database %>_TRANSFORMER;
GRANT USAGE ON SCHEMA <% database %>.BRONZE TO ROLE <% database %>_TRANSFORMER;
GRANT SELECT ON FUTURE TABLES IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_TRANSFORMER;
GRANT USAGE, CREATE TABLE, CREATE VIEW ON SCHEMA <% database %>.SILVER TO ROLE <% database %>_TRANSFORMER;
GRANT USAGE, CREATE TABLE, CREATE VIEW ON SCHEMA <% database %>.GOLD TO ROLE <% database %>_TRANSFORMER;

-- Readers see gold.
GRANT USAGE ON DATABASE <% database %> TO ROLE <% database %>_READER;
GRANT USAGE ON SCHEMA <% database %>.GOLD TO ROLE <% database %>_READER;
GRANT SELECT ON FUTURE TABLES IN SCHEMA <% database %>.GOLD TO ROLE <% database %>_READER;
GRANT SELECT ON FUTURE VIEWS IN SCHEMA <% database %>.GOLD TO ROLE <% database %>_READER;

-- The auditor sees everything.
GRANT USAGE ON DATABASE <% database %> TO ROLE <% database %>_AUDITOR;
GRANT USAGE ON SCHEMA <% database %>.BRONZE TO ROLE <% database %>_AUDITOR;
GRANT USAGE ON SCHEMA <% database %>.SILVER TO ROLE <% database %>_AUDITOR;
GRANT USAGE ON SCHEMA <% database %>.GOLD TO ROLE <% database %>_AUDITOR;
GRANT SELECT ON FUTURE TABLES IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_AUDITOR;
GRANT SELECT ON FUTURE TABLES IN SCHEMA <% database %>.SILVER TO ROLE <% database %>_AUDITOR;
GRANT SELECT ON FUTURE VIEWS IN SCHEMA <% database %>.SILVER TO ROLE <% database %>_AUDITOR;
GRANT SELECT ON FUTURE TABLES IN SCHEMA <% database %>.GOLD TO ROLE <% database %>_AUDITOR;
GRANT SELECT ON FUTURE VIEWS IN SCHEMA <% database %>.GOLD TO ROLE <% database %>_AUDITOR;
