{#- The table has as many rows as another table. -#}
{% test same_count(model, to) %}
    with counted as (
        select
            (select count(*) from {{ model }}) as rows_here,
            (select count(*) from {{ to }}) as rows_there
    )

    select * from counted where rows_here <> rows_there
{% endtest %}
