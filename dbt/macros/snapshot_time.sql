{#- The time of a snapshot run in UTC, like all other times here. dbt's own macro uses the session's time zone. -#}
{% macro snowflake__snapshot_get_time() -%}
    convert_timezone('UTC', current_timestamp())::timestamp_ntz
{%- endmacro %}
