{#- Converts the text of a record to warehouse types. An unreadable value becomes NULL, which the not_null tests report. -#}

{#- A time, as TIMESTAMP_NTZ in UTC, independent of the session's time zone. PostgreSQL's infinities become NULL. -#}
{% macro utc(path) -%}
    convert_timezone('UTC', try_cast(iff({{ path }}::varchar ilike '%infinity', null, {{ path }}::varchar) as timestamp_tz))::timestamp_ntz
{%- endmacro %}

{#- A date. Debezium writes `1815-12-10Z`. -#}
{% macro day(path) -%}
    try_cast(left({{ path }}::varchar, 10) as date)
{%- endmacro %}

{#- An integer of up to 38 digits. -#}
{% macro integer(path) -%}
    try_cast({{ path }}::varchar as number(38, 0))
{%- endmacro %}

{#-
    Converts decimal text to exact money, never through a binary float. Two kinds of values become NULL: a JSON number, because it was a
    float before it landed, and a text with a third digit after the point, because the digit would be rounded off.
-#}
{% macro money(path) -%}
    iff(
        regexp_like(to_json({{ path }}), '"-?[0-9]+([.][0-9]{1,2}0*)?"'), try_cast({{ path }}::varchar as number(18, 2)), null
    )
{%- endmacro %}

{#-
    An exact sum of money; 0 over no rows. The inner cast sets the type for servers that would infer a float. A NULL amount
    makes the sum NULL, which not_null reports.
-#}
{% macro money_sum(expression) -%}
    iff(count(*) = count({{ expression }}), coalesce(sum(cast({{ expression }} as number(38, 2))), 0), null)::number(38, 2)
{%- endmacro %}
