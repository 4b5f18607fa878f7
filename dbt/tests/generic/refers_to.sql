{#-
    Every value of the column stands in another table's column. Where the two come by different ways (`recorded_at_column` is given),
    rows younger than `settle_seconds` are not judged: what they refer to may be a moment behind.
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
