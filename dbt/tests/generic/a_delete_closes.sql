{#-
    Each version that was opened before a delete of its row, in the order of the log, ends at that delete or earlier. Replayed deletes are
    ignored. The keys that open_exactly_while_alive leaves out are left out here too.
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
