{% macro latest_version(relation, key) -%}
    (
        select * from {{ relation }}
        qualify row_number() over (partition by {{ key }} order by _loaded_at desc) = 1
    )
{%- endmacro %}
