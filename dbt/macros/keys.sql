{#-
    The primary key of a captured table, as macros take it: one column's name, which is an integer; or the kinds of its columns, `integer`
    or `text`, by name, as app/captured.toml has them. Where nothing is read from a record, a list of names will do.
-#}
{% macro key_columns(key) -%}
    {{ return([key] if key is string else key | list) }}
{%- endmacro %}

{#- The columns of a key for SQL, separated by commas, each of this relation if one is given. -#}
{% macro key_list(key, relation='') -%}
    {%- for column in key_columns(key) -%}
        {{ relation ~ '.' if relation }}{{ column }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{#- A key column of a record, typed. NULL for a text that is no JSON string and for an integer that is no whole number: the streams refuse both. -#}
{% macro key_value(record, key, column) -%}
    {%- set path = record ~ ':"' ~ column ~ '"' if key is mapping else record ~ ':' ~ column -%}
    {%- if key is mapping and key[column] == 'text' -%}
        iff(to_json({{ path }}) like '"%', {{ path }}::varchar, null)
    {%- else -%}
        {{ integer(path) }}
    {%- endif -%}
{%- endmacro %}

{#- Whether every column of a key can be read from a record. -#}
{% macro key_is_whole(record, key) -%}
    {%- for column in key_columns(key) -%}
        {{ key_value(record, key, column) }} is not null{{ ' and ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
