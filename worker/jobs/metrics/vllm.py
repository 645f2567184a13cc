"""The metrics of chats that vLLM has, too, under its names and with its labels and buckets.

Dashboards and autoscalers for vLLM read them. The buckets are those of `vllm/v1/metrics/buckets.py`.
"""

from worker.jobs.metrics.metric import MICROSECONDS, Counter, Gauge, Histogram

__all__ = [
    "DECODE_SECONDS",
    "E2E_SECONDS",
    "ENGINE",
    "GENERATION_TOKENS",
    "INTER_TOKEN_SECONDS",
    "KV_CACHE_USAGE",
    "PARAMS_MAX_TOKENS",
    "PREEMPTIONS",
    "PREFILL_SECONDS",
    "PREFIX_CACHE_HITS",
    "PREFIX_CACHE_QUERIES",
    "PROMPT_TOKENS",
    "QUEUE_SECONDS",
    "REQUESTS_RUNNING",
    "REQUESTS_WAITING",
    "REQUEST_GENERATION_TOKENS",
    "REQUEST_PROMPT_TOKENS",
    "REQUEST_SUCCESS",
    "TIME_PER_OUTPUT_TOKEN_SECONDS",
    "TIME_TO_FIRST_TOKEN_SECONDS",
    "VLLM_METRICS",
]

#: The value of the label `engine`. vLLM numbers the replicas of an engine in one server.
ENGINE = "0"

MODEL = ("model_name", "engine")

LATENCY_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0),
    *(960.0, 1920.0, 7680.0),
)
FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0),
    *(80.0, 160.0, 640.0, 2560.0),
)
INTER_TOKEN_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0),
    80.0,
)
#: vLLM ends this series at the context length of its model. Here all models share the series.
TOKENS_BUCKETS = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))


def _seconds(name: str, help_: str, buckets: tuple[float, ...] = LATENCY_BUCKETS) -> Histogram:
    return Histogram(f"vllm:{name}_seconds", help_, MODEL, MICROSECONDS, buckets)


def _tokens(name: str, help_: str) -> Histogram:
    return Histogram(f"vllm:{name}", help_, MODEL, 1, TOKENS_BUCKETS)


REQUESTS_RUNNING = Gauge("vllm:num_requests_running", "Number of chats that workers run.", MODEL)
REQUESTS_WAITING = Gauge("vllm:num_requests_waiting", "Number of chats that wait in their queue.", MODEL)
KV_CACHE_USAGE = Gauge(
    "vllm:kv_cache_usage_perc",
    "Share of the cache that running chats hold, the mean of the workers; 1 is all.",
    MODEL,
)
PREFIX_CACHE_QUERIES = Counter(
    "vllm:prefix_cache_queries_total", "Number of tokens that engines looked for in their caches.", MODEL
)
PREFIX_CACHE_HITS = Counter(
    "vllm:prefix_cache_hits_total", "Number of these tokens that were in the cache.", MODEL
)
PREEMPTIONS = Counter(
    "vllm:num_preemptions_total", "Number of preemptions of running chats, for want of cache.", MODEL
)
PROMPT_TOKENS = Counter("vllm:prompt_tokens_total", "Number of prompt tokens.", MODEL)
GENERATION_TOKENS = Counter("vllm:generation_tokens_total", "Number of generated tokens.", MODEL)
REQUEST_SUCCESS = Counter(
    "vllm:request_success_total", "Number of ended chats by finish reason.", (*MODEL, "finished_reason")
)
TIME_TO_FIRST_TOKEN_SECONDS = _seconds(
    "time_to_first_token", "Seconds from the submission of a chat to its first token.", FIRST_TOKEN_BUCKETS
)
INTER_TOKEN_SECONDS = _seconds(
    "inter_token_latency", "Seconds between two tokens of an attempt at a chat.", INTER_TOKEN_BUCKETS
)
TIME_PER_OUTPUT_TOKEN_SECONDS = _seconds(
    "request_time_per_output_token", "Mean seconds per token of a chat after the first.", INTER_TOKEN_BUCKETS
)
E2E_SECONDS = _seconds("e2e_request_latency", "Seconds from the submission of a chat to its end.")
QUEUE_SECONDS = _seconds("request_queue_time", "Seconds from the submission of a chat to its first start.")
PREFILL_SECONDS = _seconds("request_prefill_time", "Seconds from the start of a chat to its first token.")
DECODE_SECONDS = _seconds("request_decode_time", "Seconds from the first token of a chat to its last one.")
REQUEST_PROMPT_TOKENS = _tokens("request_prompt_tokens", "Number of prompt tokens of a chat.")
REQUEST_GENERATION_TOKENS = _tokens("request_generation_tokens", "Number of generated tokens of a chat.")
PARAMS_MAX_TOKENS = _tokens("request_params_max_tokens", "The max_tokens of a chat.")

VLLM_METRICS = (
    REQUESTS_RUNNING,
    REQUESTS_WAITING,
    KV_CACHE_USAGE,
    PREFIX_CACHE_QUERIES,
    PREFIX_CACHE_HITS,
    PREEMPTIONS,
    PROMPT_TOKENS,
    GENERATION_TOKENS,
    REQUEST_SUCCESS,
    TIME_TO_FIRST_TOKEN_SECONDS,
    INTER_TOKEN_SECONDS,
    TIME_PER_OUTPUT_TOKEN_SECONDS,
    E2E_SECONDS,
    QUEUE_SECONDS,
    PREFILL_SECONDS,
    DECODE_SECONDS,
    REQUEST_PROMPT_TOKENS,
    REQUEST_GENERATION_TOKENS,
    PARAMS_MAX_TOKENS,
)
