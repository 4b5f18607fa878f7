{#-
    For each current transaction, the last state in bank.transactions equals the state from the raw changes, column by column. Left out
    are transactions whose last change is younger than `settle_seconds` or was refused by the streams worker, and those of which the
    streams worker has processed a later change than is loaded here.
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
