{% macro in_dollars(cents) -%}
    cast({{ cents }} / 100.0 as decimal(12, 2))
{%- endmacro %}
