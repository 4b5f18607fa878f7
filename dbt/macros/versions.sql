{#-
    The versions of an SCD2 topic: each open with the close of the same version, if there is one. Duplicates are kept, so that
    the tests detect them.
    `version_number` counts the versions of a key in the order of their opens. `joins_from` and `joins_to` divide
    a key's time line into intervals without gap or overlap, so that a fact of any time joins exactly one version: the
    first interval includes all time before the first version; the interval of a deleted row extends to its revival. `key` is a column of the
    records, or several separated by commas.
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

{#- Qualifies the columns of a key, one or several separated by commas, with a relation. -#}
{% macro columns_of(relation, key) -%}
    {%- for column in key.split(',') -%}
        {{ relation }}.{{ column | trim }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
