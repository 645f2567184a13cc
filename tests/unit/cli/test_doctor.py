"""Tests of `stoker doctor`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from webapi.cli.main import main
from webapi.local.checks.redis import clock_check, info_checks
from worker.jobs.settings import Settings

GOOD = {"redis_version": "8.2.0", "maxmemory_policy": "noeviction", "aof_enabled": 1}


def doctor(settings: Settings, *options: str, **variables: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *options], env=settings.to_env() | variables)


def test_doctor_checks_every_part_of_the_machine(settings: Settings) -> None:
    result = doctor(settings, "--json", STOKER_PORT="0")
    found: dict[str, dict[str, Any]] = {check["name"]: check for check in json.loads(result.stdout)}
    names = {"python", "packages", "gpu", "memory", "disk", "port", "models"}
    assert names | {"clocks", "redis", "redis memory", "redis persistence"} <= set(found)
    assert (found["models"]["state"], found["models"]["advice"]) == (
        "warning",
        "fetch it with `stoker models`",
    )
    faults = [check for check in found.values() if check["state"] == "fault"]
    assert result.exit_code == (1 if faults else 0), result.output


def test_doctor_names_an_unusable_port_and_a_lost_redis_and_fails(settings: Settings) -> None:
    lost = {"STOKER_REDIS_URL": "redis://127.0.0.1:1/0", "STOKER_HOST": "192.0.2.1"}  # not an address here
    result = doctor(settings, STOKER_PORT="0", **lost)
    assert result.exit_code == 1
    lines = {line.split()[1]: line for line in result.stdout.splitlines()}
    assert lines["port"].startswith("fault    port               cannot listen on 192.0.2.1")
    assert "choose another address with --host and --port" in lines["port"]
    assert lines["redis"].startswith("fault    redis              Redis does not answer: ")
    assert "start it, or set STOKER_REDIS_URL" in lines["redis"]


@pytest.mark.parametrize(
    ("change", "name", "state", "advice"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "redis memory", "fault", "maxmemory-policy noeviction"),
        ({"aof_enabled": 0}, "redis persistence", "warning", "appendonly yes"),
        ({"aof_last_write_status": "err"}, "redis persistence", "fault", "free space"),
    ],
)
def test_doctor_says_what_is_wrong_with_redis(
    change: dict[str, Any], name: str, state: str, advice: str
) -> None:
    assert {check.state for check in info_checks(GOOD)} == {"ok"}
    [wrong] = [check for check in info_checks(GOOD | change) if check.state != "ok"]
    assert (wrong.name, wrong.state) == (name, state)
    assert advice in wrong.advice


def test_doctor_compares_the_clocks() -> None:
    assert clock_check(100.5, 100.0, 101.0).state == "ok"
    late = clock_check(90.0, 100.0, 101.0)
    assert (late.state, late.found) == ("warning", "the clock of Redis differs from this machine's by 10.0 s")


def test_doctor_finds_a_home_without_room(settings: Settings, tmp_path: Path) -> None:
    result = doctor(settings, "--json", STOKER_PORT="0", STOKER_MIN_FREE_BYTES=str(2**62))
    [disk] = [check for check in json.loads(result.stdout) if check["name"] == "disk"]
    assert (result.exit_code, disk["state"]) == (1, "fault")
    assert str(tmp_path) in disk["found"]
