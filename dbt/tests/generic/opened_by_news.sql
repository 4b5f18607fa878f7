{#-
    Each version was opened by a new change of its own key: not by a delete, not by a replay of an earlier change, not by a repeated
    snapshot read. One change opens at most one version. The keys that open_exactly_while_alive leaves out are left out here too, and so
    are versions whose change landed in a form that no query can read.
-#}
{% test opened_by_news(model, key, version_id, changes) %}
    with unsettled as (
        {{ unsettled_keys(model, key, changes) | indent(8) }}
    ),

    news as (
        {{ news(changes, key) | indent(8) }}
    ),

    opened as (
        select
            versions.{{ key }},
            versions.{{ version_id }},
            changed.{{ key }} as key_of_change,
            changed.operation,
            news.source_offset is not null as is_news,
            count(*) over (
                partition by versions.{{ key }}, versions.source_topic, versions.source_partition, versions.source_offset
            ) as versions_of_change
        from {{ model }} as versions
        inner join {{ changes }} as changed
            on
                versions.source_topic = changed.source_topic
                and versions.source_partition = changed.source_partition
                and versions.source_offset = changed.source_offset
        left join news
            on
                versions.{{ key }} = news.{{ key }}
                and versions.source_partition = news.source_partition
                and versions.source_offset = news.source_offset
    )

    select opened.*
    from opened
    left join unsettled
        on opened.{{ key }} = unsettled.{{ key }}
    where
        unsettled.{{ key }} is null
        and (
            not equal_null(opened.{{ key }}, opened.key_of_change)
            or opened.operation not in ('r', 'c', 'u')
            or not opened.is_news
            or opened.versions_of_change > 1
        )
{% endtest %}
