{#- A condition on the columns of one row is true in every row. Unlike a filter, an unknown (NULL) answer fails. -#}
{% test holds(model, condition) %}
    select *
    from {{ model }}
    where not coalesce({{ condition }}, false)
{% endtest %}
