{#- A sum of money over this table equals a sum over another table, for each currency and to the cent. -#}
{% test same_total(model, expression, to, to_expression, where='true', to_where='true') %}
    with here as (
        select
            currency,
            {{ money_sum(expression) }} as total
        from {{ model }}
        where {{ where }}
        group by currency
    ),

    there as (
        select
            currency,
            {{ money_sum(to_expression) }} as total
        from {{ to }}
        where {{ to_where }}
        group by currency
    )

    select
        coalesce(here.currency, there.currency) as currency,
        here.total as total_here,
        there.total as total_there
    from here
    full outer join there
        on here.currency = there.currency
    where not equal_null(here.total, there.total)
{% endtest %}
