"""One event of each type."""

from worker.jobs.events import (
    Batch,
    Canceled,
    Event,
    Failed,
    Progress,
    Queued,
    Reasoning,
    Requeued,
    Started,
    Succeeded,
    Token,
    ToolCall,
)

__all__ = ["ENDS", "EXAMPLES", "STEPS"]

#: What the ledger logs by itself.
LEDGER: list[Event] = [Queued(1), Started("w1", "cpu"), Requeued("drain")]
#: What a worker logs while it runs a job.
STEPS: list[Event] = [
    Token("Hi\u2028é", 0, 2, "5 6"),
    Token("", 2, 1, "7", choice=1, finish_reason="stop", token_ids=[7], prompt_token_ids=[1, 2]),
    Reasoning("Hm.", 2, 1, "7"),
    ToolCall(0, '{"a', 1, "call_1", "add", "8"),
    ToolCall(0, '": 1}', 1, resume="9", token_ids=[9]),
    Batch(0, 15, 1, 0.5, {"source": "rss"}),
    Batch(1, 1, 15, 0.5, {"source": "rss"}, [{"frame": 15, "time": 0.5, "faces": []}], "w1", "cpu"),
    Progress(15, None, "frames"),
]
#: What a worker logs at the end.
ENDS: list[Event] = [
    Succeeded({"text": "Hi"}, {"total_tokens": 2}),
    Failed("timeout", "It took too long."),
    Canceled(),
]
EXAMPLES = LEDGER + STEPS + ENDS
