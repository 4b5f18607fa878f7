{#- An `updated` or `resnapshot` version names the changed columns, and at least one of them is not in BANKSTREAM_UNTRACKED_COLUMNS. -#}
{% test a_tracked_column_changed(model) %}
    {%- set left = namespace(sql='to_json(changed)') %}
    {%- for column in untracked_columns() %}
    {%- set left.sql = "replace(" ~ left.sql ~ ", '\"" ~ column ~ "\"', '')" %}
    {%- endfor %}
    select *
    from {{ model }}
    where
        open_reason in ('updated', 'resnapshot')
        and coalesce(replace(replace(replace({{ left.sql }}, ',', ''), '[', ''), ']', ''), '') = ''
{% endtest %}
