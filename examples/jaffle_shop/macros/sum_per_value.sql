{% macro sum_per_value(amount, column, values, suffix) -%}
    {% for value in values -%}
    coalesce(sum({{ amount }}) filter (where {{ column }} = '{{ value }}'), 0) as {{ value }}{{ suffix }}
    {%- if not loop.last %},
    {% endif %}
    {%- endfor %}
{%- endmacro %}
