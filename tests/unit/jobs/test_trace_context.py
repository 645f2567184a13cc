"""The place of a job in a trace: what a header `traceparent` says, and what the ledger keeps of it."""

import pytest

from tests.support.ledger import QUEUE
from worker.jobs.ledger.ledger import IdempotencyKey, Ledger
from worker.jobs.specs import ChatJob, validate
from worker.jobs.trace_context import JobTrace, TraceContext

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (PARENT, True),
        (f"00-{TRACE_ID}-{SPAN_ID}-00", False),
        (f"00-{TRACE_ID}-{SPAN_ID}-03", True),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-a-later-version-adds", True),
    ],
)
def test_traceparent_names_a_span(header: str, sampled: bool) -> None:
    found = TraceContext.parse(header, "congo=t61")
    assert found == TraceContext(TRACE_ID, SPAN_ID, sampled, "congo=t61")
    assert TraceContext.parse(found.traceparent) == TraceContext(TRACE_ID, SPAN_ID, sampled)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        PARENT.upper(),
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"{PARENT}-more",
        f"{PARENT},{PARENT}",
        f"{PARENT}\n",
        PARENT[:-1],
    ],
)
def test_malformed_traceparent_names_none(header: str | None) -> None:
    assert TraceContext.parse(header, "congo=t61") is None


@pytest.mark.parametrize("state", [None, "", "é=1", "a=" + "b" * 511])
def test_tracestate_of_another_form_is_left_out(state: str | None) -> None:
    found = TraceContext.parse(PARENT, state)
    assert found is not None
    assert found.state == ""


def test_ledger_keeps_the_trace_of_the_first_request(ledger: Ledger) -> None:
    link = TraceContext.of_job("b")
    first = JobTrace(TraceContext(TRACE_ID, SPAN_ID, state="congo=t61"), link, exported=True)
    key = IdempotencyKey("key", "fingerprint")
    ledger.submit("a", QUEUE, CHAT, idempotency_key=key, trace=first)
    ledger.submit("c", QUEUE, CHAT, idempotency_key=key, trace=JobTrace(TraceContext.of_job("c")))
    record = ledger.get("a")
    assert (record.trace, record.tracestate, record.trace_link) == (PARENT, "congo=t61", link.traceparent)
    assert ledger.fields("traced", ["a"]) == ["1"]


def test_job_without_a_trace_stores_none(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT)
    record = ledger.get("a")
    assert (record.trace, record.tracestate, record.trace_link) == (None, "", None)
    assert ledger.fields("traced", ["a"]) == [None]
