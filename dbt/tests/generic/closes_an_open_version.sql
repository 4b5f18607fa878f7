{#-
    Each close record names a version that was opened before it. Key and `valid_from` equal those of the open record, and `valid_to` is not
    before `valid_from`. The first open record of a version counts; unique_together tests that there is no second one. `key` is a column, or
    several separated by commas.
-#}
{% test closes_an_open_version(model, key) %}
    with opens as (
        select version_id, {{ key }}, valid_from, record_partition, record_offset
        from {{ model }}
        where operation = 'open'
        qualify row_number() over (partition by version_id order by record_partition, record_offset) = 1
    )

    select
        closes.version_id,
        {{ columns_of('closes', key) }},
        closes.valid_from,
        closes.valid_to,
        opens.valid_from as opened_from
    from {{ model }} as closes
    left join opens
        on closes.version_id = opens.version_id
    where
        closes.operation = 'close'
        and (
            opens.version_id is null
            or not ({% for column in key.split(',') %}opens.{{ column | trim }} = closes.{{ column | trim }}{{ ' and ' if not loop.last }}{% endfor %})
            or opens.valid_from <> closes.valid_from
            or closes.valid_to is null
            or closes.valid_to < closes.valid_from
            or (opens.record_partition = closes.record_partition and opens.record_offset > closes.record_offset)
        )
{% endtest %}
