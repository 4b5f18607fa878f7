{#-
    No two versions of a key are valid at the same time. Validity is half-open, [valid_from, valid_to). An open version has no end,
    so two open versions of a key overlap too.
-#}
{% test no_overlap(model, key, version_id) %}
    select
        earlier.{{ key }},
        earlier.{{ version_id }} as earlier_version,
        later.{{ version_id }} as later_version
    from {{ model }} as earlier
    inner join {{ model }} as later
        on
            earlier.{{ key }} = later.{{ key }}
            and earlier.{{ version_id }} <> later.{{ version_id }}
            and (
                earlier.valid_from < later.valid_from
                or (earlier.valid_from = later.valid_from and earlier.version_number < later.version_number)
            )
            and later.valid_from < coalesce(earlier.valid_to, '9999-12-31'::timestamp_ntz)
{% endtest %}
