{#-
    The open reason of a version fits the version before it: the first version of a key was created, a version after a deletion is a
    revival, and a version after one that was not deleted is an update. `key_changed` (the row had another key before) fits every case.
-#}
{% test begins_for_a_reason(model, key, version_id) %}
    with neighbours as (
        select
            {{ key }},
            {{ version_id }},
            open_reason,
            lag({{ version_id }}) over (partition by {{ key }} order by version_number) as previous_version,
            lag(close_reason) over (partition by {{ key }} order by version_number) as previous_end
        from {{ model }}
    )

    select *
    from neighbours
    where
        open_reason <> 'key_changed'
        and not coalesce(
            case
                when previous_version is null then open_reason = 'created'
                when previous_end = 'superseded' then open_reason in ('updated', 'resnapshot')
                else previous_end is not null and open_reason = 'revived'
            end,
            false
        )
{% endtest %}
