{#- Each close record names a version that was opened, for the same key, at the same instant, and not after the close. -#}
{% test closes_an_open_version(model, key) %}
    select
        closes.version_id,
        closes.{{ key }},
        closes.valid_from,
        closes.valid_to,
        opens.valid_from as opened_from
    from {{ model }} as closes
    left join {{ model }} as opens
        on closes.version_id = opens.version_id and opens.operation = 'open'
    where
        closes.operation = 'close'
        and (
            opens.version_id is null
            or opens.{{ key }} <> closes.{{ key }}
            or opens.valid_from <> closes.valid_from
            or closes.valid_to is null
            or closes.valid_to < closes.valid_from
        )
{% endtest %}
