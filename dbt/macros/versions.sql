{#-
    The versions of an SCD2 stream: each open with the close of the same version, if it has one. Nothing is removed here: a record
    that came twice must show in the tests, not vanish.
    `version_number` counts the versions of a key in the order in which the stream opened them; `joins_from` and `joins_to` cut
    a key's time line into pieces without gap or overlap, so that a fact of any instant finds exactly one version: the
    first piece reaches back before the first version, the piece of a deleted row reaches on to its revival. `key` is a column of the
    records, or several with commas between.
-#}
{% macro versions(records, key) -%}
    with opens as (
        select * from {{ records }} where operation = 'open'
    ),

    closes as (
        select * from {{ records }} where operation = 'close'
    ),

    joined as (
        select
            opens.*,
            closes.valid_to as closed_at,
            closes.version_id is null as is_current,
            closes.reason as close_reason,
            closes.source_topic as close_source_topic,
            closes.source_partition as close_source_partition,
            closes.source_offset as close_source_offset,
            closes.source_lsn as close_source_lsn,
            closes.source_tx_id as close_source_tx_id,
            row_number() over (
                partition by {{ columns_of('opens', key) }} order by opens.record_partition, opens.record_offset
            ) as version_number
        from opens
        left join closes
            on opens.version_id = closes.version_id
    )

    select
        joined.*,
        iff(version_number = 1, '0001-01-01'::timestamp_ntz, valid_from) as joins_from,
        coalesce(
            lead(valid_from) over (partition by {{ key }} order by version_number), '9999-12-31'::timestamp_ntz
        ) as joins_to
    from joined
{%- endmacro %}

{#- The columns of a key, which is one or several with commas between, as those of a relation. -#}
{% macro columns_of(relation, key) -%}
    {%- for column in key.split(',') -%}
        {{ relation }}.{{ column | trim }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
