{#-
    The versions of a key are in the order of time and of the log: a version begins neither before the begin nor before the end of the
    version opened before it, and its source change is later in the partition. A late change opens a version at the end; it is not
    inserted into the history.
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
