import json
from collections.abc import Sequence
from typing import Any

import pytest
from redis.client import PubSub

from tests.support.ledger import QUEUE, append_of, lapse
from tests.support.stack import WAIT_S
from worker.jobs.errors import JobConflict, JobNotFound, NeedsExclusiveWorker, QueueFull
from worker.jobs.events import Event, Failed, LoggedEvent, Succeeded, Token
from worker.jobs.ledger import owner_jobs
from worker.jobs.ledger.appends import Behind, LedgerReply, json_fields
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.scripts import Scripts
from worker.jobs.ledger.store import RedisStore
from worker.jobs.records import JobState
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, VideoJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})


def submit(ledger: Ledger, *job_ids: str) -> None:
    for job_id in job_ids:
        ledger.submit(job_id, QUEUE, CHAT)


def append(
    ledger: Ledger,
    job_id: str,
    attempt: int,
    first: int,
    *events: Event,
    claim: str | None = None,
    **fields: Any,
) -> LedgerReply:
    made = append_of(ledger, job_id, first, events, json_fields(**fields), attempt=attempt, claim=claim)
    return ledger.append([made]).replies[0]


def types(ledger: Ledger, job_id: str) -> list[str]:
    events = ledger.events(job_id)
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    return [event.type for event in events]


DONE = Succeeded(result={"text": "hello"}, usage={"total_tokens": 3})


def test_job_from_submit_to_terminal_event(ledger: Ledger) -> None:
    submit(ledger, "a")
    queued = ledger.get("a")
    assert (queued.state, queued.position, queued.attempt, queued.worker) == ("queued", 1, 0, None)
    assert queued.spec == CHAT

    claimed = ledger.claim("a", "w1", "cpu")
    assert claimed is not None
    assert (claimed.attempt, claimed.events, claimed.worker, claimed.device) == (1, 2, "w1", "cpu")
    assert append(ledger, "a", 1, 3, Token("hel", 0, 1), Token("lo", 1, 1), done=2, total=9) == "ok"
    assert append(ledger, "a", 1, 5, DONE, usage=DONE.usage, result=DONE.result) == "ended"

    ended = ledger.get("a")
    assert (ended.state, ended.done, ended.total, ended.unit) == ("succeeded", 2, 9, "tokens")
    assert (ended.result, ended.usage) == ({"text": "hello"}, {"total_tokens": 3})
    assert ended.created_at <= (ended.started_at or 0) <= (ended.finished_at or 0)
    assert types(ledger, "a") == ["queued", "started", "token", "token", "succeeded"]
    assert ledger.store.client.ttl(ledger.store.channel("a") + ":events") > 0


def test_events_have_envelope_and_are_published(ledger: Ledger) -> None:
    listener: PubSub = ledger.store.client.pubsub()  # type: ignore[no-untyped-call]
    listener.subscribe(ledger.store.channel("a"))
    assert listener.get_message(timeout=WAIT_S) is not None
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    append(ledger, "a", 1, 3, Token('"é\n', 0, 1), Failed("engine_failed", "no"))
    heard = [listener.get_message(timeout=WAIT_S)["data"] for _ in range(4)]
    listener.close()
    assert heard == [event.text for event in ledger.events("a")]
    assert [json.loads(text)["attempt"] for text in heard] == [0, 1, 1, 1]
    token = json.loads(heard[2])
    assert token.pop("time").endswith("Z")
    assert token == {
        "n": 3,
        "type": "token",
        "job": "a",
        "attempt": 1,
        "text": '"é\n',
        "index": 0,
        "count": 1,
    }
    assert LoggedEvent.from_json(heard[3]).terminal


def test_claim_succeeds_once(ledger: Ledger) -> None:
    submit(ledger, "a")
    assert ledger.claim("a", "w1", "cpu") is not None
    assert ledger.claim("a", "w2", "cpu") is None
    assert ledger.claim("missing", "w2", "cpu") is None


def test_append_refuses_stale_attempt(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu", claim="first")
    assert ledger.requeue("a", "w1", "worker_lost", lease_end=1) is None  # it has renewed its lease
    lapse(ledger, "w1")
    assert ledger.requeue("a", "w1", "worker_lost") == QUEUE
    assert append(ledger, "a", 1, 3, Token("x", 0, 1)) == "stale"
    again = ledger.claim("a", "w2", "cpu")
    assert again is not None
    assert again.attempt == 2
    assert append(ledger, "a", 1, 3, Token("x", 0, 1), claim="first") == "stale"
    assert append(ledger, "a", 2, again.events + 1, Token("x", 0, 1), claim="first") == "stale"
    assert append(ledger, "a", 2, again.events + 1, DONE) == "ended"
    assert append(ledger, "a", 2, again.events + 1, DONE) == "ended"  # the first reply was lost
    assert append(ledger, "a", 2, again.events + 2, DONE) == "stale"
    assert types(ledger, "a") == ["queued", "started", "requeued", "started", "succeeded"]


def test_append_repeated_logs_nothing_twice(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    first = [Token("a", 0, 1), Token("b", 1, 1)]
    append(ledger, "a", 1, 3, *first, done=2)
    append(ledger, "a", 1, 5, Token("c", 2, 1), done=3)
    assert append(ledger, "a", 1, 3, *first, done=2) == "ok"
    assert ledger.get("a").done == 3
    texts = [event.data["text"] for event in ledger.events("a") if event.type == "token"]
    assert texts == ["a", "b", "c"]


def test_append_reports_gap_in_log(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    assert append(ledger, "a", 1, 9, Token("x", 0, 1), done=7) == Behind(2)
    assert types(ledger, "a") == ["queued", "started"]


def test_append_without_events_sets_fields_and_reports_cancel(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    assert append(ledger, "a", 1, 3, done=5) == "ok"
    ledger.cancel("a")
    assert append(ledger, "a", 1, 3, done=6) == "cancel"
    assert (ledger.get("a").done, types(ledger, "a")) == (6, ["queued", "started"])


def test_cancel_ends_waiting_job_and_flags_running_job(ledger: Ledger) -> None:
    submit(ledger, "a", "b")
    assert ledger.cancel("a") == "canceled"
    assert ledger.claim("a", "w1", "cpu") is None
    assert ledger.get("b").position == 1
    ledger.claim("b", "w1", "cpu")
    assert ledger.cancel("b") == "running"
    assert append(ledger, "b", 1, 3, Token("x", 0, 1)) == "cancel"
    assert ledger.cancel("a") == "canceled"
    assert types(ledger, "a") == ["queued", "canceled"]
    with pytest.raises(JobNotFound):
        ledger.cancel("missing")


def test_requeue_puts_job_first(ledger: Ledger) -> None:
    submit(ledger, "old", "new")
    ledger.claim("old", "w1", "cpu")
    ledger.requeue("old", "w1", "drain")
    assert [ledger.get(i).position for i in ("old", "new")] == [1, 2]


def test_requeue_fails_job_after_max_attempts(ledger: Ledger) -> None:
    submit(ledger, "a")
    for _ in range(5):  # a drain does not count as a lost worker
        ledger.claim("a", "w0", "cpu")
        assert ledger.requeue("a", "w0", "drain") == QUEUE
    for worker, queue in (("w1", QUEUE), ("w2", QUEUE), ("w3", None)):
        ledger.claim("a", worker, "cpu", exclusive=True)
        lapse(ledger, worker)
        assert ledger.requeue("a", "someone else", "worker_lost") is None
        assert ledger.requeue("a", worker, "worker_lost") == queue
    ended = ledger.get("a")
    assert ended.error == {"code": "worker_lost", "message": "its worker was lost 3 times"}
    assert types(ledger, "a")[-1] == "failed"


def test_claim_last_attempt_needs_exclusive_worker(ledger: Ledger) -> None:
    submit(ledger, "a")
    for worker in ("w1", "w2"):
        ledger.claim("a", worker, "cpu")
        lapse(ledger, worker)
        ledger.requeue("a", worker, "worker_lost")
    with pytest.raises(NeedsExclusiveWorker):
        ledger.claim("a", "w3", "cpu")
    assert ledger.get("a").state == "queued"
    assert ledger.claim("a", "w4", "cpu") is None  # w3 waits to run it in isolation
    lapse(ledger, "w3")
    with pytest.raises(NeedsExclusiveWorker):
        ledger.claim("a", "w4", "cpu")
    assert ledger.claim("a", "w4", "cpu", exclusive=True) is not None


def test_claim_repeated_returns_same_record(ledger: Ledger) -> None:
    submit(ledger, "a")
    first = ledger.claim("a", "w1", "cpu", claim="c1")
    assert first is not None
    assert ledger.claim("a", "w1", "cpu", claim="c1") == first
    assert ledger.claim("a", "w1", "cpu", claim="c2") is None


def test_end_overdue_expires_waiting_job(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT.model_copy(update={"max_queue_s": 1e-6}))
    submit(ledger, "b")
    assert ledger.end_overdue() == ["a"]
    assert ledger.get("a").error == {"code": "expired", "message": "it waited longer than its max_queue_s"}
    assert types(ledger, "a") == ["queued", "failed"]
    assert ledger.get("b").position == 1
    assert ledger.end_overdue() == []


def test_claim_expires_overdue_job(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT.model_copy(update={"max_queue_s": 1e-6}))
    assert ledger.claim("a", "w1", "cpu") is None
    assert types(ledger, "a") == ["queued", "failed"]


def test_end_overdue_times_out_running_job(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT.model_copy(update={"timeout_s": 1e-6}))
    ledger.claim("a", "w1", "cpu")
    assert ledger.end_overdue() == ["a"]
    assert append(ledger, "a", 1, 3, Token("x", 0, 1)) == "stale"
    assert (ledger.get("a").error or {})["code"] == "timeout"
    assert types(ledger, "a") == ["queued", "started", "failed"]
    assert ledger.store.client.smembers(ledger.store.key("worker", "w1", "jobs")) == set()


def test_timeout_includes_waiting_after_requeue(ledger: Ledger) -> None:
    ledger.submit("a", QUEUE, CHAT.model_copy(update={"timeout_s": 1e-6}))
    ledger.claim("a", "w1", "cpu")
    ledger.requeue("a", "w1", "drain")
    assert ledger.claim("a", "w2", "cpu") is None
    assert (ledger.get("a").error or {})["code"] == "timeout"


def test_end_overdue_cancels_without_worker(settings: Settings) -> None:
    ledger = Ledger(RedisStore(settings.replace(lease_ttl_s=1e-6)))
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    assert ledger.end_overdue() == []
    assert ledger.cancel("a") == "running"
    assert ledger.end_overdue() == ["a"]
    assert types(ledger, "a") == ["queued", "started", "canceled"]
    ledger.store.close()


def test_requeue_ignores_newer_claim(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu", claim="first")
    assert ledger.requeue("a", "w1", "drain", "first") == QUEUE
    ledger.claim("a", "w1", "cpu", claim="second")
    assert ledger.requeue("a", "w1", "drain", "first") is None
    assert ledger.get("a").state == "running"


def test_requeue_ends_canceled_job(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    ledger.cancel("a")
    lapse(ledger, "w1")
    assert ledger.requeue("a", "w1", "worker_lost") is None
    assert ledger.get("a").state == "canceled"


def test_submit_refuses_full_queue(redis_url: str, settings: Settings) -> None:
    small = Ledger(RedisStore(settings.replace(max_waiting=2)))
    submit(small, "a", "b")
    with pytest.raises(QueueFull):
        submit(small, "c")
    submit(small, "a")  # a repeated submit is the same job
    small.claim("a", "w1", "cpu")
    submit(small, "a")
    assert small.get("a").state == "running"
    with pytest.raises(JobNotFound):
        small.get("c")
    small.store.close()


def test_page_is_newest_first_and_filtered(ledger: Ledger) -> None:
    names = [f"job{i}" for i in range(5)]
    submit(ledger, *names)
    ledger.submit("clip", "video.test", VideoJob())
    ledger.cancel("job1")
    assert [r.id for r in ledger.page(kind="chat", limit=3)] == ["job4", "job3", "job2"]
    assert [r.id for r in ledger.page(kind="chat", limit=3, after="job2")] == ["job1", "job0"]
    assert [r.id for r in ledger.page(state="canceled")] == ["job1"]
    assert [r.id for r in ledger.page(kind="video")] == ["clip"]


def test_forget_requires_terminal_job(ledger: Ledger) -> None:
    submit(ledger, "a")
    with pytest.raises(JobConflict):
        ledger.forget("a")
    ledger.cancel("a")
    ledger.forget("a")
    assert ledger.page() == []
    with pytest.raises(JobNotFound):
        ledger.forget("a")


@pytest.mark.parametrize("few", [0, 1000])
def test_page_of_a_state_with_few_or_many_jobs(
    ledger: Ledger, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_jobs, "SORTED", few)
    monkeypatch.setattr(owner_jobs, "WALKED", 2)
    for number in range(6):
        ledger.submit(f"job{number}", QUEUE, CHAT)
    ledger.claim("job1", "w1", "cpu")
    for job_id in ("job2", "job4"):
        ledger.cancel(job_id)

    def found(state: JobState, limit: int = 20, after: str | None = None) -> list[str]:
        return [record.id for record in ledger.page(state=state, limit=limit, after=after)]

    assert found("queued") == ["job5", "job3", "job0"]
    assert found("queued", 2, "job5") == ["job3", "job0"]
    assert found("running") == ["job1"]
    assert found("running", after="job1") == []
    assert found("canceled", 1) == ["job4"]
    assert found("canceled", 1, "job4") == ["job2"]
    assert found("failed") == []


@pytest.mark.parametrize("state", [None, "queued"])
def test_page_asks_only_for_the_positions_of_its_jobs(
    ledger: Ledger, state: JobState | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(ledger, *(f"job{number}" for number in range(30)))
    asked: list[int] = []
    eval_all = Scripts.eval_all

    def counting(scripts: Scripts, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        asked.append(len(calls))
        return eval_all(scripts, name, calls)

    monkeypatch.setattr(Scripts, "eval_all", counting)
    assert len(ledger.page(state=state, limit=5)) == 5
    assert asked == [5]


def test_scripts_are_loaded_again_after_flush(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.store.client.script_flush()
    submit(ledger, "b")
    assert isinstance(ledger.get("b").spec, ChatJob)
