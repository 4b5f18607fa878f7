{#-
    The versions of a key are in the order of time and of the log: none begins before one that the stream opened earlier began or had
    ended, nor from a change that stands before that one's. What comes late opens at the end; it does not go into history.
-#}
{% test in_order(model, key, version_id) %}
    with neighbours as (
        select
            {{ key }},
            {{ version_id }},
            valid_from,
            source_partition,
            source_offset,
            lag(valid_from) over (partition by {{ key }} order by version_number) as previous_from,
            lag(valid_to) over (partition by {{ key }} order by version_number) as previous_to,
            lag(source_partition) over (partition by {{ key }} order by version_number) as previous_partition,
            lag(source_offset) over (partition by {{ key }} order by version_number) as previous_offset
        from {{ model }}
    )

    select *
    from neighbours
    where
        valid_from < previous_from
        or valid_from < previous_to
        or (source_partition = previous_partition and source_offset <= previous_offset)
{% endtest %}
