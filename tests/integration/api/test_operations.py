"""The routes of administrators: the pause of queues, and the drain of workers."""

from tests.support.web.webstack import CHAT, HELLO, Web
from webapi.keys.key import ALL_SCOPES
from webapi.keys.keys import Keys


def test_pause_keeps_jobs_waiting_and_refuses_nothing(web: Web) -> None:
    web.ready_worker("chat")
    web.ready_worker("video")
    dispatched = web.submit()
    paused = web.http.post(f"/v1/queues/{CHAT}/pause")
    assert (paused.status_code, paused.json()["paused"], paused.json()["waiting"]) == (200, True, 1)
    assert web.http.post(f"/v1/queues/{CHAT}/pause").json() == paused.json()
    later = web.submit()
    assert web.ledger.claim(dispatched, "chat1", "cpu") is None
    queues = {queue["name"]: queue for queue in web.http.get("/v1/queues").json()["queues"]}
    assert (queues[CHAT]["paused"], queues[CHAT]["waiting"]) == (True, 2)
    assert web.job(later)["estimated_start"] is None
    assert web.http.get("/readyz").status_code == 200
    resumed = web.http.post(f"/v1/queues/{CHAT}/resume")
    assert (resumed.status_code, resumed.json()["paused"]) == (200, False)
    assert web.ledger.claim(dispatched, "chat1", "cpu")


def test_paused_queue_without_a_worker_stays_in_the_list(web: Web) -> None:
    web.ledger.store.client.delete(web.ledger.store.key("models", "seen"))
    assert web.http.get("/v1/queues").json() == {"queues": []}
    web.http.post(f"/v1/queues/{CHAT}/pause").raise_for_status()
    assert [queue["name"] for queue in web.http.get("/v1/queues").json()["queues"]] == [CHAT]


def test_drain_answers_with_the_worker_and_asks_it(web: Web) -> None:
    card = web.ready_worker("chat")
    answer = web.http.post("/v1/workers/chat1/drain")
    assert (answer.status_code, answer.json()["name"]) == (202, "chat1")
    assert web.registry.renew(card).drain


def test_operations_need_the_key_of_an_administrator_and_a_known_name(web: Web) -> None:
    web.ready_worker("chat")
    keys = Keys(web.ledger.store)
    paths = [f"/v1/queues/{CHAT}/pause", f"/v1/queues/{CHAT}/resume", "/v1/workers/chat1/drain"]
    for scopes, status in ((["submit", "read", "metrics"], 403), (ALL_SCOPES, 200)):
        headers = {"Authorization": f"Bearer {keys.create('k', scopes=scopes).text}"}
        answers = [web.http.post(path, headers=headers) for path in paths]
        assert [answer.status_code // 100 for answer in answers] == [status // 100] * 3
        for path in ("/v1/queues/chat.none/pause", "/v1/queues/a/b/resume", "/v1/workers/none/drain"):
            answer = web.http.post(path, headers=headers)
            assert answer.status_code == (404 if status == 200 else 403)
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert web.http.post("/v1/jobs/chat", json=HELLO, headers=headers).status_code == 202
