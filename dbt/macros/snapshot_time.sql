{#- When a snapshot runs, in UTC as every other instant: dbt's own says it in the session's time zone. -#}
{% macro snowflake__snapshot_get_time() -%}
    convert_timezone('UTC', current_timestamp())::timestamp_ntz
{%- endmacro %}
