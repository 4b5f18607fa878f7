{#- Whether the version joined to a fact was valid at the fact's time (`booked_at`). -#}
{% macro version_match(dimension, version_id) -%}
    case
        when {{ dimension }}.{{ version_id }} is null then 'missing'
        when transactions.booked_at < {{ dimension }}.valid_from then 'before_first_version'
        when transactions.booked_at >= {{ dimension }}.valid_to then 'after_deletion'
        else 'valid_at_event'
    end
{%- endmacro %}
