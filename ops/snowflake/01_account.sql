-- Roles, compute and service users: once per account, by someone with USERADMIN, SYSADMIN and SECURITYADMIN. May be run again.
--   snow sql -f ops/snowflake/01_account.sql -D database=BANK -D deployer_public_key=… -D loader_public_key=… \
--     -D transformer_public_key=… -D auditor_public_key=…
-- A public key is the base64 body of its PEM file, on one line. docs/SNOWFLAKE.md says how to make the pairs.

USE ROLE USERADMIN;

CREATE ROLE IF NOT EXISTS <% database %>_DEPLOYER COMMENT = 'owns the database: bankstream provision warehouse, bankstream rebuild';
CREATE ROLE IF NOT EXISTS <% database %>_LOADER COMMENT = 'the warehouse worker: appends to landing tables, moves the ledger';
CREATE ROLE IF NOT EXISTS <% database %>_TRANSFORMER COMMENT = 'dbt: reads bronze, owns what is in silver and gold';
CREATE ROLE IF NOT EXISTS <% database %>_READER COMMENT = 'dashboards and analysts: reads gold';
CREATE ROLE IF NOT EXISTS <% database %>_AUDITOR COMMENT = 'bankstream reconcile and trace: reads everything, changes nothing';

GRANT ROLE <% database %>_DEPLOYER TO ROLE SYSADMIN;
GRANT ROLE <% database %>_LOADER TO ROLE SYSADMIN;
GRANT ROLE <% database %>_TRANSFORMER TO ROLE SYSADMIN;
GRANT ROLE <% database %>_READER TO ROLE SYSADMIN;
GRANT ROLE <% database %>_AUDITOR TO ROLE SYSADMIN;

USE ROLE SYSADMIN;

-- One for each kind of work: a long query of an analyst never holds up a load, and each has its own line on the bill.
CREATE WAREHOUSE IF NOT EXISTS <% database %>_LOAD_WH WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE
    INITIALLY_SUSPENDED = TRUE STATEMENT_TIMEOUT_IN_SECONDS = 600;
CREATE WAREHOUSE IF NOT EXISTS <% database %>_TRANSFORM_WH WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE
    INITIALLY_SUSPENDED = TRUE STATEMENT_TIMEOUT_IN_SECONDS = 3600;
CREATE WAREHOUSE IF NOT EXISTS <% database %>_READ_WH WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE
    INITIALLY_SUSPENDED = TRUE STATEMENT_TIMEOUT_IN_SECONDS = 600;

GRANT USAGE ON WAREHOUSE <% database %>_LOAD_WH TO ROLE <% database %>_DEPLOYER;
GRANT USAGE ON WAREHOUSE <% database %>_LOAD_WH TO ROLE <% database %>_LOADER;
GRANT USAGE ON WAREHOUSE <% database %>_TRANSFORM_WH TO ROLE <% database %>_TRANSFORMER;
GRANT USAGE ON WAREHOUSE <% database %>_READ_WH TO ROLE <% database %>_READER;
GRANT USAGE ON WAREHOUSE <% database %>_READ_WH TO ROLE <% database %>_AUDITOR;

-- A rebuild makes a database of its own.
GRANT CREATE DATABASE ON ACCOUNT TO ROLE <% database %>_DEPLOYER;

USE ROLE USERADMIN;

-- TYPE = SERVICE: no password can be set, a key is the only way in.
CREATE USER IF NOT EXISTS <% database %>_DEPLOYER_SVC TYPE = SERVICE DEFAULT_ROLE = <% database %>_DEPLOYER
    DEFAULT_WAREHOUSE = <% database %>_LOAD_WH RSA_PUBLIC_KEY = '<% deployer_public_key %>';
CREATE USER IF NOT EXISTS <% database %>_LOADER_SVC TYPE = SERVICE DEFAULT_ROLE = <% database %>_LOADER
    DEFAULT_WAREHOUSE = <% database %>_LOAD_WH RSA_PUBLIC_KEY = '<% loader_public_key %>';
CREATE USER IF NOT EXISTS <% database %>_TRANSFORMER_SVC TYPE = SERVICE DEFAULT_ROLE = <% database %>_TRANSFORMER
    DEFAULT_WAREHOUSE = <% database %>_TRANSFORM_WH RSA_PUBLIC_KEY = '<% transformer_public_key %>';
CREATE USER IF NOT EXISTS <% database %>_AUDITOR_SVC TYPE = SERVICE DEFAULT_ROLE = <% database %>_AUDITOR
    DEFAULT_WAREHOUSE = <% database %>_READ_WH RSA_PUBLIC_KEY = '<% auditor_public_key %>';

GRANT ROLE <% database %>_DEPLOYER TO USER <% database %>_DEPLOYER_SVC;
GRANT ROLE <% database %>_LOADER TO USER <% database %>_LOADER_SVC;
GRANT ROLE <% database %>_TRANSFORMER TO USER <% database %>_TRANSFORMER_SVC;
GRANT ROLE <% database %>_AUDITOR TO USER <% database %>_AUDITOR_SVC;
