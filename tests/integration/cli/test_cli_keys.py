"""Tests of `stoker keys`, and of the hosts on which the API refuses to listen without a key."""

import json
import os
import re
import time

import httpx
import pytest
from click.testing import CliRunner, Result

from tests.support.web.webstack import Web
from webapi.cli.main import main
from webapi.keys.keys import Keys
from webapi.keys.signing_keys import SigningKeys
from webapi.local import preflight, state_file
from worker.jobs.errors import Unauthorized
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings

DAY_S = 86_400


def stoker(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def env(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_keys_create_list_and_revoke(env: pytest.MonkeyPatch, ledger: Ledger) -> None:
    created = stoker("keys", "create", "ci", "--max-waiting", "9", "--max-running", "2", "--expires", "31d")
    assert created.exit_code == 0, created.output
    key = Keys(ledger.store).check(created.stdout.strip())
    assert (key.name, key.max_waiting, key.max_running) == ("ci", 9, 2)
    assert key.expires_at == pytest.approx(key.created_at + 31 * DAY_S)
    assert "will not be shown again. The key expires at 2" in created.stderr
    assert "The key never expires" in stoker("keys", "create", "for ever", "--expires", "never").stderr
    listed = stoker("keys", "list")
    head, first, second = listed.stdout.splitlines()
    columns = "ID NAME STATE SCOPES CREATED EXPIRES LAST-USED MAX-WAITING MAX-RUNNING"
    assert (head.split(), listed.stderr) == (columns.split(), "")
    assert first.split()[:4] == [key.id, "ci", "valid", "submit,read"]
    assert first.split()[-3:] == ["-", "9", "2"]
    assert second.split()[-4:] == ["-", "-", "-", "-"]
    assert created.stdout.strip()[-49:] not in first
    Keys(ledger.store).note_use(key.id)
    assert re.match(r"\d{4}-", stoker("keys", "list").stdout.splitlines()[1].split()[6])
    assert stoker("keys", "revoke", key.id).stdout == f"{key.id} (ci) is revoked\n"
    assert stoker("keys", "list").stdout.splitlines()[1].split()[2] == "revoked"


def test_keys_list_and_audit_print_json_without_the_secret(env: pytest.MonkeyPatch, ledger: Ledger) -> None:
    text = stoker("keys", "create", "ci", "--expires", "never").stdout.strip()
    [key] = json.loads((listed := stoker("keys", "list", "--json")).stdout)
    assert (key["name"], key["state"], key["scopes"], key["expires_at"]) == (
        "ci",
        "valid",
        ["submit", "read"],
        None,
    )
    [change] = json.loads(stoker("keys", "audit", "--json").stdout)
    assert (change["action"], change["key"], change["time"][:4]) == (
        "key_created",
        key["id"],
        key["created_at"][:4],
    )
    assert text[-49:] not in listed.stdout


def test_keys_create_expires_after_a_year_by_default(env: pytest.MonkeyPatch, ledger: Ledger) -> None:
    key = Keys(ledger.store).check(stoker("keys", "create", "ci").stdout.strip())
    assert key.expires_at == pytest.approx(key.created_at + 365 * DAY_S)


@pytest.mark.parametrize(
    ("options", "scopes"),
    [
        ((), ("submit", "read")),
        (("--scopes", "metrics"), ("metrics",)),
        (("--scopes", "metrics,submit"), ("submit", "metrics")),
        (("--admin",), ("submit", "read", "metrics", "admin")),
    ],
)
def test_keys_create_gives_the_scopes(
    env: pytest.MonkeyPatch, ledger: Ledger, options: tuple[str, ...], scopes: tuple[str, ...]
) -> None:
    created = stoker("keys", "create", "ci", *options)
    assert Keys(ledger.store).check(created.stdout.strip()).scopes == scopes


@pytest.mark.parametrize("scopes", ["", "write", "submit,,read", "submit, read"])
def test_keys_create_refuses_unknown_scopes(env: pytest.MonkeyPatch, ledger: Ledger, scopes: str) -> None:
    result = stoker("keys", "create", "ci", "--scopes", scopes)
    assert (result.exit_code, "submit,read,metrics,admin" in result.stderr) == (2, True)
    assert not Keys(ledger.store).any()


def test_keys_list_warns_of_keys_that_expire_soon(env: pytest.MonkeyPatch, ledger: Ledger) -> None:
    keys = Keys(ledger.store)
    soon, revoked = (keys.create(name, expires_s=29 * DAY_S).key for name in ("soon", "revoked"))
    keys.create("late", expires_s=31 * DAY_S)
    keys.revoke(revoked.id)
    [warning] = stoker("keys", "list").stderr.splitlines()
    assert warning.startswith(f"{soon.id} (soon) expires at 2")
    assert warning.endswith(f"`stoker keys rotate {soon.id}` renews it.")


def test_keys_rotate_prints_a_new_text_of_the_key(env: pytest.MonkeyPatch, ledger: Ledger) -> None:
    keys = Keys(ledger.store)
    first = keys.create("ci")
    second = stoker("keys", "rotate", first.key.id)
    key = keys.check(second.stdout.strip())
    assert (key.id, keys.check(first.text)) == (first.key.id, key)
    assert key.expires_at == pytest.approx(time.time() + 365 * DAY_S, abs=60)
    assert "expires at" in second.stderr
    third = stoker("keys", "rotate", key.id, "--grace", "0s", "--expires", "never")
    assert keys.check(third.stdout.strip()).expires_at is None
    with pytest.raises(Unauthorized):
        keys.check(second.stdout.strip())


def test_keys_rotate_revoked_key_is_one_sentence(env: pytest.MonkeyPatch, ledger: Ledger) -> None:
    key_id = Keys(ledger.store).create("ci").key.id
    Keys(ledger.store).revoke(key_id)
    result = stoker("keys", "rotate", key_id)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: key {key_id} is revoked\n")


def test_keys_audit_lists_the_changes_of_keys(env: pytest.MonkeyPatch, ledger: Ledger) -> None:
    stoker("keys", "create", "ci")
    [key] = Keys(ledger.store).list()
    stoker("keys", "rotate", key.id)
    stoker("keys", "revoke", key.id)
    head, *changes = (line.split() for line in stoker("keys", "audit").stdout.splitlines())
    assert head == ["TIME", "ACTION", "ID", "NAME", "BY"]
    assert [change[1:4] for change in changes] == [
        ["key_created", key.id, "ci"],
        ["key_rotated", key.id, "ci"],
        ["key_revoked", key.id, "ci"],
    ]
    assert changes[0][4].startswith(f"{os.getuid()}@")


def test_keys_create_if_none_creates_one_key(env: pytest.MonkeyPatch, ledger: Ledger) -> None:
    """A container runs this command at each start of a stack."""
    first = stoker("keys", "create", "first", "--if-none")
    assert Keys(ledger.store).check(first.stdout.strip()).name == "first"
    again = stoker("keys", "create", "first", "--if-none")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "There are keys already" in again.stderr
    assert len(Keys(ledger.store).list()) == 1


@pytest.mark.parametrize("command", ["revoke", "rotate", "webhook-secret"])
def test_keys_unknown_id_is_one_sentence(env: pytest.MonkeyPatch, command: str) -> None:
    result = stoker("keys", command, "nobody")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: there is no key nobody\n")


@pytest.mark.parametrize("expires", ["30", "d", "-1d", "1y", "0d", "1.5h"])
def test_keys_create_refuses_invalid_expiry(env: pytest.MonkeyPatch, ledger: Ledger, expires: str) -> None:
    result = stoker("keys", "create", "ci", "--expires", expires)
    assert (result.exit_code, "such as 30d or 12h" in result.stderr) == (2, True)
    assert not Keys(ledger.store).any()


def test_keys_webhook_secret_prints_secret(env: pytest.MonkeyPatch, ledger: Ledger) -> None:
    key = Keys(ledger.store).create("ci").key
    secret = SigningKeys(ledger.store)
    assert stoker("keys", "webhook-secret", key.id).stdout == secret.webhook_key(key.id) + "\n"
    assert stoker("keys", "webhook-secret").stdout == secret.webhook_key("") + "\n"


def test_keys_use_redis_of_running_stack(env: pytest.MonkeyPatch, settings: Settings, ledger: Ledger) -> None:
    env.delenv("STOKER_REDIS_URL")
    env.delenv("STOKER_PREFIX")
    state_file.write(settings, "http://127.0.0.1:1")
    assert stoker("keys", "create", "ci").exit_code == 0
    assert [key.name for key in Keys(ledger.store).list()] == ["ci"]


def test_status_uses_api_of_running_stack(
    env: pytest.MonkeyPatch, settings: Settings, ledger: Ledger
) -> None:
    env.delenv("STOKER_URL", raising=False)
    state_file.write(settings, "http://127.0.0.1:1")
    assert "http://127.0.0.1:1" in stoker("status").stderr
    env.setenv("STOKER_URL", "http://127.0.0.1:2")
    assert "http://127.0.0.1:2" in stoker("status").stderr


@pytest.mark.parametrize("name", ["", " ", "a\nb"])
def test_keys_create_refuses_unprintable_name(env: pytest.MonkeyPatch, name: str) -> None:
    assert stoker("keys", "create", name).exit_code == 2


@pytest.mark.parametrize("command", [("keys", "list"), ("web", "--host", "0.0.0.0")])
def test_missing_redis_is_one_sentence(env: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    env.setenv("STOKER_REDIS_URL", "redis://127.0.0.1:1/0")
    result = stoker(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: Redis does not answer: .*\n", result.stderr)


@pytest.fixture
def executed(env: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environments of the programs that `stoker` executed."""
    seen: list[dict[str, str]] = []
    env.setattr("os.execve", lambda path, argv, environ: seen.append(environ))
    env.setattr(preflight, "free_port", lambda host, port: port)  # these hosts are not this machine's
    return seen


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "api.example"])
def test_web_public_host_requires_key_or_no_auth(
    executed: list[dict[str, str]], ledger: Ledger, host: str
) -> None:
    refused = stoker("web", "--host", host)
    assert (refused.exit_code, refused.stderr.count("\n"), executed) == (1, 1, [])
    assert refused.stderr.startswith("Error: there is no API key")
    assert "`stoker keys create NAME`" in refused.stderr
    assert stoker("web", "--host", host, "--no-auth").exit_code == 0
    assert executed.pop()["STOKER_NO_AUTH"] == "True"
    key = Keys(ledger.store).create("ci").key
    assert stoker("web", "--host", host).exit_code == 0
    Keys(ledger.store).revoke(key.id)
    assert stoker("web", "--host", host).exit_code == 0
    assert [environ["STOKER_NO_AUTH"] for environ in executed] == ["False", "False"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_web_loopback_host_requires_no_key(
    executed: list[dict[str, str]], env: pytest.MonkeyPatch, host: str
) -> None:
    env.setenv("STOKER_REDIS_URL", "redis://127.0.0.1:1/0")
    assert stoker("web", "--host", host).exit_code == 0
    assert executed[0]["STOKER_HOST"] == host


def test_status_sends_api_key(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_URL", str(web.http.base_url))
    key = Keys(web.ledger.store).create("ci")
    refused = stoker("status")
    assert (refused.exit_code, "STOKER_API_KEY" in refused.stderr) == (1, True)
    monkeypatch.setenv("STOKER_API_KEY", key.text)
    assert stoker("status").exit_code == 0
    assert key.text not in repr(Settings.from_env())
    assert httpx.get(f"{web.http.base_url}/v1/queues").status_code == 401
