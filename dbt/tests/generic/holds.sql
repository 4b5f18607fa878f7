{#- A condition on the columns of one row is true in every row. Unlike in a filter, a NULL result fails. -#}
{% test holds(model, condition) %}
    select *
    from {{ model }}
    where not coalesce({{ condition }}, false)
{% endtest %}
