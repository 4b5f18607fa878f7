{#-
    No version outlives a delete of its row: what was opened before the delete in the log has ended by it. Replayed deletes are none. Keys
    are left out as in open_exactly_while_alive.
-#}
{% test a_delete_closes(model, key, version_id, changes) %}
    with unsettled as (
        {{ unsettled_keys(model, key, changes) | indent(8) }}
    ),

    deleted as (
        select {{ key }}, source_partition, source_offset
        from ({{ news(changes, key) | indent(8) }}) as news
        where operation = 'd'
    )

    select
        versions.{{ key }},
        versions.{{ version_id }},
        deleted.source_partition,
        deleted.source_offset as deleted_at
    from {{ model }} as versions
    inner join deleted
        on
            versions.{{ key }} = deleted.{{ key }}
            and versions.source_partition = deleted.source_partition
            and versions.source_offset < deleted.source_offset
    left join unsettled
        on versions.{{ key }} = unsettled.{{ key }}
    where
        unsettled.{{ key }} is null
        and (
            versions.is_current
            or (versions.close_source_partition = deleted.source_partition and versions.close_source_offset > deleted.source_offset)
        )
{% endtest %}
