-- What can be granted only when the tables are there: after `bankstream provision warehouse`. May be run again.
--   snow sql -f ops/snowflake/04_grants.sql -D database=BANK

USE ROLE <% database %>_DEPLOYER;

-- The ledger is the one table whose rows change: by compare-and-set, in the transaction of the rows that it counts.
GRANT UPDATE ON TABLE <% database %>.BRONZE.LAKE_LEDGER TO ROLE <% database %>_LOADER;

-- For tables that were there before 03_database.sql was run.
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_LOADER;
GRANT USAGE ON ALL STAGES IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_LOADER;
GRANT SELECT ON ALL TABLES IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_TRANSFORMER;
GRANT SELECT ON ALL TABLES IN SCHEMA <% database %>.BRONZE TO ROLE <% database %>_AUDITOR;
