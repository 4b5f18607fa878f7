{#- The changes of a table without those that the streams worker refused. Refused changes have no effect, as in the worker. -#}
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

{#- The position of the refused record of a dead letter. -#}
{% macro refused_position(letter) -%}
    {{ letter }}:topic::varchar as topic,
    {{ integer(letter ~ ':partition') }} as partition_number,
    {{ integer(letter ~ ':offset') }} as offset_number
{%- endmacro %}

{#-
    The changes of rows, each with the highest lsn of earlier records of the same row in its partition: `changed_before` is that of the
    row's changes, `seen_before` that of its changes and snapshot reads.
-#}
{% macro placed_changes(changes, key) -%}
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
    from {{ changes }} as happened
    where operation <> 't'
{%- endmacro %}

{#-
    The changes of rows without replays. A change whose lsn is not above that of an earlier change of the same row is a replay. A snapshot
    read has the lsn of the snapshot, not of the row's last change, so a later change is not compared with it.
-#}
{% macro news(changes, key) -%}
    select *
    from (
        {{ placed_changes('(' ~ not_refused(changes) ~ ')', key) | indent(8) }}
    ) as placed
    where {{ is_news() }}
{%- endmacro %}

{#- Whether a change of `placed_changes` is not a replay. -#}
{% macro is_news() -%}
    source_lsn is null
    or iff(operation = 'r', seen_before, changed_before) is null
    or source_lsn > iff(operation = 'r', seen_before, changed_before)
{%- endmacro %}

{#- Columns whose change alone opens no version, as in the streams worker (BANKSTREAM_UNTRACKED_COLUMNS). -#}
{% macro untracked_columns() -%}
    {{ return(env_var('BANKSTREAM_UNTRACKED_COLUMNS', 'balance,updated_at').split(',') | map('trim') | reject('equalto', '') | list) }}
{%- endmacro %}
