{#- Every fact is joined to a version of each dimension. Facts younger than `settle_seconds` are left out: their versions may not be loaded yet. -#}
{% test versions_found(model) %}
    select *
    from {{ model }}
    where
        (account_version_match = 'missing' or customer_version_match = 'missing')
        and committed_at <= {{ settled_until() }}
{% endtest %}
