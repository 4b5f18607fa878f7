{#-
    Incremental strategy `replace`: the rows of a run replace those with the same unique_key, in one warehouse transaction, so that readers
    never see a part of it. A row without lineage (source_topic is NULL) only deletes the existing row: its key no longer has a row.
-#}
{% macro get_incremental_replace_sql(arg_dict) %}
    {%- set target, made = arg_dict['target_relation'], arg_dict['temp_relation'] %}
    {%- set keys = arg_dict['unique_key'] if arg_dict['unique_key'] is string else arg_dict['unique_key'] | join(', ') %}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) %}
    {%- set dml %}
    delete from {{ target }}
    where ({{ keys }}) in (select {{ keys }} from {{ made }});

    insert into {{ target }} ({{ columns }})
    select {{ columns }}
    from {{ made }}
    where source_topic is not null
    {%- endset %}
    {{ return(snowflake_dml_explicit_transaction(dml)) }}
{% endmacro %}
