{#- From the text of a record to warehouse types. What cannot be read becomes NULL, which the not_null tests then report. -#}

{#- An instant, as TIMESTAMP_NTZ in UTC: one meaning whatever the session's time zone. PostgreSQL's infinities have none. -#}
{% macro utc(path) -%}
    convert_timezone('UTC', try_cast(iff({{ path }}::varchar ilike '%infinity', null, {{ path }}::varchar) as timestamp_tz))::timestamp_ntz
{%- endmacro %}

{#- A day. Debezium writes `1815-12-10Z`. -#}
{% macro day(path) -%}
    try_cast(left({{ path }}::varchar, 10) as date)
{%- endmacro %}

{#- A whole number of 64 bits and more. -#}
{% macro integer(path) -%}
    try_cast({{ path }}::varchar as number(38, 0))
{%- endmacro %}

{#-
    Money, exact: from a decimal's text, never through a binary float. A JSON number has been a float on its way here, and a third digit
    after the point would be rounded away: both become NULL.
-#}
{% macro money(path) -%}
    iff(
        regexp_like(to_json({{ path }}), '"-?[0-9]+([.][0-9]{1,2}0*)?"'), try_cast({{ path }}::varchar as number(18, 2)), null
    )
{%- endmacro %}

{#-
    An exact sum of money; 0 over no rows. The inner cast states the type for servers that would infer a float; a NULL amount is
    no zero: it makes the sum NULL, and not_null reports it.
-#}
{% macro money_sum(expression) -%}
    iff(count(*) = count({{ expression }}), coalesce(sum(cast({{ expression }} as number(38, 2))), 0), null)::number(38, 2)
{%- endmacro %}
