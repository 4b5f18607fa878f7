{#-
    Every value of the column exists in another table's column. If the two tables are loaded from different topics, give
    `recorded_at_column`: rows younger than `settle_seconds` are left out, because the row that they refer to may not be loaded yet.
-#}
{% test refers_to(model, column_name, to, field, recorded_at_column=none) %}
    select referring.*
    from {{ model }} as referring
    left join {{ to }} as referred
        on referring.{{ column_name }} = referred.{{ field }}
    where
        referring.{{ column_name }} is not null
        and referred.{{ field }} is null
        {%- if recorded_at_column %}
        and referring.{{ recorded_at_column }} <= {{ settled_until() }}
        {%- endif %}
{% endtest %}
