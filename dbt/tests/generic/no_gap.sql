{#- A version begins where the one before it ended, unless the close reason of the earlier one says that the row did not exist in between. -#}
{% test no_gap(model, key, version_id) %}
    with neighbours as (
        select
            {{ key }},
            {{ version_id }},
            valid_to,
            close_reason,
            lead({{ version_id }}) over (partition by {{ key }} order by version_number) as next_version,
            lead(valid_from) over (partition by {{ key }} order by version_number) as next_from
        from {{ model }}
    )

    select *
    from neighbours
    where
        next_version is not null
        and (valid_to is null or next_from <> valid_to)
        and coalesce(close_reason, 'none') not in ('deleted', 'truncated', 'key_changed', 'vanished')
{% endtest %}
