"""The metrics of webhooks, which the scripts raise that end a try."""

from worker.jobs.metrics.metric import Counter

__all__ = ["WEBHOOK_METRICS"]

DELIVERIES = Counter(
    "stoker_webhook_deliveries_total",
    "Tries at webhooks by outcome. Webhooks are dropped without a try if their key has too many.",
    ("outcome",),
)

WEBHOOK_METRICS = (DELIVERIES,)
