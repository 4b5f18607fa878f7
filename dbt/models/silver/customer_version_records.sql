{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

{{ version_records('scd2_customers', 'bank.scd2.customers', 'customer_id') }}
