"""The metrics that the scripts of the ledger raise: once for each event, however often a call is repeated."""

from collections.abc import Mapping
from dataclasses import replace

from tests.support.ledger import QUEUE, append_of, card, lapse, pass_deadline
from tests.support.metrics import raised
from worker.jobs.events import Canceled, Succeeded, Token
from worker.jobs.ledger.appends import Append, LedgerReply
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.readings import EngineStats
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
DONE = Succeeded({"text": "Hi"}, {})


def with_increments(append: Append, **increments: int) -> Append:
    return append._replace(increments=increments)


def send(ledger: Ledger, *appends: Append) -> list[LedgerReply]:
    return list(ledger.append(appends).replies)


def test_submit_counts_once_when_repeated(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.submit("a", QUEUE, CHAT)
    ledger.submit("b", QUEUE, CHAT)
    assert raised(ledger) == {f"stoker_jobs_submitted_total {QUEUE}": 2}


def test_claim_counts_once_when_repeated(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT)
    for claim in ("c1", "c1", "c2"):
        ledger.claim("a", "w1", "cpu", claim=claim)
    found = raised(ledger)
    assert found[f"stoker_attempts_total {QUEUE}"] == 1
    assert found[f"stoker_job_queue_seconds {QUEUE}"] == 1


def test_append_counts_increments_with_its_events_only(ledger: Ledger) -> None:
    for job_id in ("a", "b", "c"):
        ledger.submit(job_id, QUEUE, CHAT)
        ledger.claim(job_id, "w1", "cpu")
    first = with_increments(append_of(ledger, "a", 3, [Token("x", 0, 1)]), t=1, **{"of two": 20})
    second = with_increments(append_of(ledger, "b", 3, [Token("x", 0, 1)]), u=300, t=10)
    stale = with_increments(append_of(ledger, "c", 3, [Token("x", 0, 1)], claim="other"), t=1000, v=1)
    behind = with_increments(append_of(ledger, "c", 5, [Token("x", 0, 1)]), t=1000)
    without_event = with_increments(append_of(ledger, "c", 3, []), t=1000)
    before = raised(ledger)
    send(ledger, first, second, stale, behind, without_event)
    send(ledger, second, first)
    found = raised(ledger)
    assert {name: found[name] for name in found.keys() - before.keys()} == {"t": 11, "of two": 20, "u": 300}


def test_end_counts_once_when_repeated(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT)
    ledger.claim("a", "w1", "cpu")
    end = with_increments(append_of(ledger, "a", 3, [Token("x", 0, 1), DONE]), t=1)
    assert send(ledger, end) == send(ledger, end) == ["ended"]
    found = raised(ledger)
    assert (found["t"], found["stoker_job_seconds chat succeeded"]) == (1, 1)
    assert "vllm:request_success_total" not in str(found)  # its worker names the reason


def test_end_without_its_worker_counts_the_tokens_that_no_append_has_counted(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT)
    ledger.claim("a", "w1", "cpu")
    fields = {"done": 5, "counted": 2}
    send(ledger, append_of(ledger, "a", 3, [Token("x", 0, 5)], fields))
    ledger.requeue("a", "w1", "drain")
    ledger.cancel("a")
    assert raised(ledger)["vllm:generation_tokens_total test 0"] == 3


def test_requeue_counts_once_and_the_next_attempt_waits_from_then(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT)
    ledger.claim("a", "w1", "cpu")
    old = with_increments(append_of(ledger, "a", 3, [Token("x", 0, 1)]), t=1)
    lapse(ledger, "w1")
    for _ in range(2):
        ledger.requeue("a", "w1", "worker_lost")
    ledger.claim("a", "w2", "cpu")
    assert send(ledger, old) == ["stale"]
    found = raised(ledger)
    assert found[f"stoker_requeues_total {QUEUE} worker_lost"] == 1
    assert found[f"stoker_attempts_total {QUEUE}"] == found[f"stoker_job_queue_seconds {QUEUE}"] == 2
    assert "t" not in found


def test_ends_without_a_worker_count(ledger: Ledger) -> None:
    settings = ledger.store.settings
    adapter = CHAT.model_copy(update={"model": "my lora"})
    for job_id, spec in {"canceled": CHAT, "expired": adapter, "lost": CHAT}.items():
        ledger.submit(job_id, QUEUE, spec)
    ledger.cancel("canceled")
    pass_deadline(ledger, "expired")
    ledger.end_overdue()
    for _ in range(settings.max_attempts):
        ledger.claim("lost", "w1", "cpu", exclusive=True)
        ledger.requeue("lost", "w1", "worker_lost")
    found = raised(ledger)
    assert found["stoker_job_seconds chat canceled"] == 1
    assert found["stoker_job_seconds chat failed"] == 2
    assert found["vllm:request_success_total test 0 abort"] == 1
    assert found["vllm:request_success_total test 0 error"] == 1
    assert found["vllm:request_success_total my%20lora 0 error"] == 1
    assert found[f"stoker_requeues_total {QUEUE} worker_lost"] == settings.max_attempts - 1


def test_end_of_a_running_chat_by_its_worker_counts_the_finish_reason(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT)
    ledger.claim("a", "w1", "cpu")
    send(ledger, append_of(ledger, "a", 3, [Canceled()]))
    assert raised(ledger)["vllm:request_success_total test 0 abort"] == 1


def silence(ledger: Ledger) -> tuple[str, str]:
    """Return why and since when the job's log has been silent, as its next attempt gets it."""
    (found,) = ledger.fields("silent", ["a"])
    reason, _, time = (found or "").partition(" ")
    return reason, time


def times(ledger: Ledger) -> Mapping[int, str]:
    return {event.n: event.data["time"] for event in ledger.events("a")}


def test_requeue_notes_since_when_the_log_is_silent(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT)
    ledger.claim("a", "w1", "cpu")
    token = append_of(ledger, "a", 3, [Token("x", 0, 1)])
    send(ledger, token._replace(time=token.time - 60))
    ledger.requeue("a", "w1", "worker_lost")
    assert silence(ledger) == ("worker_lost", times(ledger)[3])
    ledger.claim("a", "w2", "cpu")  # attempt 2 adds nothing
    ledger.requeue("a", "w2", "drain")
    assert silence(ledger) == ("worker_lost", times(ledger)[3])
    record = ledger.claim("a", "w3", "cpu")
    assert record is not None
    last = append_of(ledger, "a", record.events + 1, [Token("y", 1, 1)], attempt=3)
    send(ledger, last)
    ledger.requeue("a", "w3", "drain")
    assert silence(ledger) == ("drain", times(ledger)[record.events + 1])


def test_renew_adds_what_engine_has_counted_and_never_falls(ledger: Ledger) -> None:
    """The worker's counts outlive its card: it may have been frozen. Its successor counts from 0."""
    registry = Registry(ledger.store)

    def renew(name: str, queries: int, hits: int = 0, preemptions: int = 0) -> None:
        registry.renew(replace(card(name), engine_stats=EngineStats(0.5, queries, hits, preemptions)))

    registry.renew(card("older"))
    assert raised(ledger) == {}
    renew("w1", 0)
    assert set(raised(ledger).values()) == {0}
    for _ in range(2):
        renew("w1", 100, 40)
    renew("w1", 130, 40, 1)
    registry.release("w1", None)
    renew("w1", 150, 60, 1)
    renew("w2", 7)
    renew("w2", 0)  # its engine has stopped
    assert raised(ledger) == {
        "vllm:prefix_cache_queries_total test 0": 157,
        "vllm:prefix_cache_hits_total test 0": 60,
        "vllm:num_preemptions_total test 0": 1,
    }
