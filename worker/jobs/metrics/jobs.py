"""The metrics of jobs of all kinds, of queues and of workers."""

from worker.jobs.metrics.metric import MICROSECONDS, Counter, Gauge, Histogram
from worker.jobs.metrics.vllm import FIRST_TOKEN_BUCKETS, LATENCY_BUCKETS

__all__ = [
    "ATTEMPTS",
    "ESTIMATED_WAIT_SECONDS",
    "FINISHED",
    "JOB_METRICS",
    "JOB_QUEUE_SECONDS",
    "JOB_SECONDS",
    "REQUEUES",
    "RESUME_GAP_SECONDS",
    "RUNNING",
    "SLOTS",
    "SUBMITTED",
    "WAITING",
    "WORKERS",
]

QUEUE = ("queue",)

WAITING = Gauge("stoker_jobs_waiting", "Jobs that wait in the queue.", QUEUE)
RUNNING = Gauge("stoker_jobs_running", "Jobs that workers run.", QUEUE)
SLOTS = Gauge("stoker_slots", "Slots of ready workers.", QUEUE)
ESTIMATED_WAIT_SECONDS = Gauge(
    "stoker_estimated_wait_seconds", "Estimated seconds until a job that is submitted now starts.", QUEUE
)
WORKERS = Gauge("stoker_workers", "Workers that hold their lease.", ("kind", "state"))
FINISHED = Counter("stoker_jobs_finished_total", "Jobs that have ended.", ("queue", "state"))
SUBMITTED = Counter("stoker_jobs_submitted_total", "Jobs that were accepted.", QUEUE)
ATTEMPTS = Counter("stoker_attempts_total", "Attempts that workers have started.", QUEUE)
REQUEUES = Counter("stoker_requeues_total", "Attempts whose job went back to its queue.", ("queue", "reason"))
JOB_QUEUE_SECONDS = Histogram(
    "stoker_job_queue_seconds",
    "Seconds from the submission of a job, or its return to the queue, to the start of an attempt.",
    QUEUE,
    MICROSECONDS,
    LATENCY_BUCKETS,
)
JOB_SECONDS = Histogram(
    "stoker_job_seconds",
    "Seconds from the submission of a job to its end.",
    ("kind", "state"),
    MICROSECONDS,
    LATENCY_BUCKETS,
)
RESUME_GAP_SECONDS = Histogram(
    "stoker_resume_gap_seconds",
    "Seconds from the last event of a lost attempt to the first token or batch of the next one.",
    ("queue", "reason"),
    MICROSECONDS,
    FIRST_TOKEN_BUCKETS,
)

JOB_METRICS = (
    WAITING,
    RUNNING,
    SLOTS,
    ESTIMATED_WAIT_SECONDS,
    WORKERS,
    FINISHED,
    SUBMITTED,
    ATTEMPTS,
    REQUEUES,
    JOB_QUEUE_SECONDS,
    JOB_SECONDS,
    RESUME_GAP_SECONDS,
)
