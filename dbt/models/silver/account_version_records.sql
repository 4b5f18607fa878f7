{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

{{ version_records('scd2_accounts', 'bank.scd2.accounts', 'account_id') }}
