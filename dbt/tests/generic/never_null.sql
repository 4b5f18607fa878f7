{#- These columns are never NULL. The test scans a table once instead of once for each column; the failing rows name the missing columns. -#}
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
