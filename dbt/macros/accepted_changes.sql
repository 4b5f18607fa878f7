{#- The changes of a table that happened: all but those that the streams refused. Here as there they are passed over. -#}
{% macro not_refused(changes) -%}
    select changed.*
    from {{ changes }} as changed
    left join {{ ref('dead_letters') }} as refused
        on
            changed.source_topic = refused.topic
            and changed.source_partition = refused.partition_number
            and changed.source_offset = refused.offset_number
    where refused.topic is null
{%- endmacro %}

{#-
    The changes of rows that brought something new, each once. A change at or below a log position that was seen of the same row
    is a replay; a snapshot read carries the position of the snapshot, so it makes no change after it a replay.
-#}
{% macro news(changes, key) -%}
    select *
    from (
        select
            happened.*,
            max(iff(operation = 'r', null, source_lsn)) over (
                partition by {{ key }}, source_partition
                order by source_offset
                rows between unbounded preceding and 1 preceding
            ) as changed_before,
            max(source_lsn) over (
                partition by {{ key }}, source_partition
                order by source_offset
                rows between unbounded preceding and 1 preceding
            ) as seen_before
        from ({{ not_refused(changes) }}) as happened
        where operation <> 't'
    ) as placed
    where
        source_lsn is null
        or iff(operation = 'r', seen_before, changed_before) is null
        or source_lsn > iff(operation = 'r', seen_before, changed_before)
{%- endmacro %}

{#- Columns whose change alone opens no version, as the streams have it (BANKSTREAM_UNTRACKED_COLUMNS). -#}
{% macro untracked_columns() -%}
    {{ return(env_var('BANKSTREAM_UNTRACKED_COLUMNS', 'balance,updated_at').split(',') | map('trim') | reject('equalto', '') | list) }}
{%- endmacro %}
