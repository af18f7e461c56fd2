{# A condition is true of every row; one that is null is not true. #}
{% test holds(model, condition, column_name=none) %}

select *
from {{ model }}
where not coalesce(({{ condition }}), false)

{% endtest %}
