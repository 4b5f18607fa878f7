{#-
    Why a version began fits what was before it: the first of a key was created, one after a death is a revival, one after a
    living version is an update. A row that came from another key (`key_changed`) may begin anywhere.
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
