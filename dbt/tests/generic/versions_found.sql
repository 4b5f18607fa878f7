{#- Every fact has found its version of each dimension, unless it is so young that the dimension may be a moment behind. -#}
{% test versions_found(model) %}
    select *
    from {{ model }}
    where
        (account_version_match = 'missing' or customer_version_match = 'missing')
        and committed_at <= {{ settled_until() }}
{% endtest %}
