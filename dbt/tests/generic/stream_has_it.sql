{#-
    The last state of a transaction in the stream is the state that the raw changes came to, column by column, for all that live in the
    source. Transactions whose last change is younger than `settle_seconds`, or that the streams refused, are not judged, nor are
    those that the stream has seen a later change of than is loaded here.
-#}
{% test stream_has_it(model, rows, changes, key, columns) %}
    with unsettled as (
        {{ unsettled_keys(model, key, changes, closes=false) | indent(8) }}
    )

    select
        living.{{ key }},
        states.operation as operation_in_stream
        {%- for column in columns %},
        living.{{ column }} as {{ column }}_in_row,
        states.{{ column }} as {{ column }}_in_stream
        {%- endfor %}
    from {{ rows }} as living
    left join {{ model }} as states
        on living.{{ key }} = states.{{ key }} and states.is_last
    left join unsettled
        on living.{{ key }} = unsettled.{{ key }}
    where
        unsettled.{{ key }} is null
        and (
            states.operation is null
            or states.operation = 'deleted'
            {%- for column in columns %}
            or not equal_null(living.{{ column }}, states.{{ column }})
            {%- endfor %}
        )
{% endtest %}
