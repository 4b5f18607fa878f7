{#- These columns always have a value. One scan a table instead of one a column; the failing rows say which is missing. -#}
{% test never_null(model, columns) %}
    with checked as (
        select
            {%- for column in columns %}
            iff({{ column }} is null, '{{ column }} ', ''){{ ' ||' if not loop.last }}
            {%- endfor %} as missing,
            count(*) as rows_missing
        from {{ model }}
        group by 1
    )

    select * from checked where missing <> ''
{% endtest %}
