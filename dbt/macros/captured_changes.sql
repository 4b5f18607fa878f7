{#-
    The row changes of one captured table, from Debezium's envelopes (plain, or inside {schema, payload}): one row for each
    snapshot read, insert, update, delete and truncate. Tombstones and other messages change no row and are left out, as are
    unreadable changes: `refused_is_a_dead_letter` tests that those are dead letters.
    `row_image` is the row after the change; for a delete, the deleted row (replica identity is FULL, so it is complete).
    `key`: the primary key, see `key_value`.
-#}
{% macro captured_changes(table, key) -%}
    with landed as (
        {{ landed_records('cdc_events', 'bank.public.' ~ table, 'source_partition', 'source_offset') | indent(8) }}
    ),

    opened as (
        select landed.*, coalesce(record_value:payload, record_value) as envelope
        from landed
    )

    select
        record_topic as source_topic,
        record_partition as source_partition,
        record_offset as source_offset,
        {{ log_position('envelope:source:lsn') }} as source_lsn,
        {{ integer('envelope:source:txId') }} as source_tx_id,
        to_timestamp_ntz({{ commit_us('envelope') }}, 6) as committed_at,
        recorded_at,
        envelope:op::varchar as operation,
        {{ ends_snapshot('envelope') }} as ends_snapshot,
        iff(envelope:op::varchar = 'd', envelope:before, envelope:after) as row_image
    from opened
    where {{ is_row_change('envelope', key) }}
{%- endmacro %}

{#- A position in PostgreSQL's WAL. A negative one is NULL, as in the streams worker. -#}
{% macro log_position(path) -%}
    iff({{ integer(path) }} >= 0, {{ integer(path) }}, null)
{%- endmacro %}

{#- Whether an envelope is the last row of a snapshot of its table. Never NULL. -#}
{% macro ends_snapshot(envelope) -%}
    coalesce({{ envelope }}:source:snapshot::varchar in ('last_in_data_collection', 'last'), false)
{%- endmacro %}

{#- The commit time of an envelope in microseconds. -#}
{% macro commit_us(envelope) -%}
    coalesce({{ integer(envelope ~ ':source:ts_us') }}, {{ integer(envelope ~ ':source:ts_ms') }} * 1000)
{%- endmacro %}

{#- Whether an envelope is a readable change of a row, or of all rows. Never NULL. -#}
{% macro is_row_change(envelope, key) -%}
    coalesce(
        (
            {{ envelope }}:op::varchar = 't'
            or ({{ envelope }}:op::varchar in ('r', 'c', 'u') and {{ has_key(envelope ~ ':after', key) }})
            or ({{ envelope }}:op::varchar = 'd' and {{ has_key(envelope ~ ':before', key) }})
        )
        and {{ commit_us(envelope) }} between -62135596800000000 and 253402300799999999,
        false
    )
{%- endmacro %}

{#- Whether a row has every column of its key. -#}
{% macro has_key(row, key) -%}
    {%- for column, type in ({key: 'integer'} if key is string else key).items() -%}
        {{ ' and ' if not loop.first }}{{ key_value(row, column, type) }} is not null
    {%- endfor -%}
{%- endmacro %}

{#-
    A column of a row's key. A key is the name of one integer column, or a mapping of column names to "integer" or "text", as in
    captured.toml. An integer that is not a whole number and a text that is not a JSON string are NULL: the streams worker refuses both.
-#}
{% macro key_value(row, column, type='integer') -%}
    {%- set path = row ~ ':"' ~ column | replace('"', '""') ~ '"' -%}
    {%- if type == 'integer' -%}
        {{ integer(path) }}
    {%- else -%}
        iff(to_json({{ path }}) like '"%', {{ path }}::varchar, null)
    {%- endif -%}
{%- endmacro %}
