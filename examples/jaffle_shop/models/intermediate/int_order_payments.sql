select
    payments.order_id,
    count(*) as payment_count,
    sum(payments.amount) as paid,
    {{ sum_per_value('payments.amount', 'payments.method', ['card', 'cash', 'voucher'], '_paid') }},
    cast(sum(payments.amount * methods.fee_percent / 100) as decimal(12, 2)) as fees,
    max(payments.paid_at) as last_paid_at,
    max(payments._loaded_at) as _loaded_at
from {{ ref('stg_payments') }} as payments
inner join {{ ref('payment_methods') }} as methods on payments.method = methods.method
group by payments.order_id
