"""The tables of the kinds of jobs: their parts exist, and an unknown kind is an error."""

from pkgutil import resolve_name

import pytest

from webapi.app import create_app
from webapi.description.route import route_of
from webapi.kinds.table import API_KINDS
from worker.app import app
from worker.jobs.errors import ConfigurationError
from worker.jobs.kinds import KINDS, Kind, find_kind, has_files
from worker.jobs.settings import Settings


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_kinds_have_all_their_parts(kind: Kind) -> None:
    assert KINDS[kind.name] is find_kind(kind.name) is kind
    assert kind.model_setting in Settings.model_fields
    assert callable(resolve_name(kind.runner))
    assert f"stoker.{kind.name}" in app.tasks


def test_api_knows_all_kinds_and_has_routes_that_submit_their_jobs(settings: Settings) -> None:
    app = create_app(settings)
    assert API_KINDS.keys() == KINDS.keys()
    assert {route_of(app, endpoint).submits for endpoint in app.view_functions} == {None, *KINDS}


def test_unknown_kind_is_an_error_and_never_another_kind() -> None:
    for ask in (find_kind, Settings().model, Settings().model_name):
        with pytest.raises(ConfigurationError, match=f"no kind of job 'audio', only {', '.join(KINDS)}"):
            ask("audio")


def test_jobs_of_unknown_kinds_may_have_files() -> None:
    assert [has_files(name) for name in ("chat", "video", "audio", None)] == [False, True, True, True]


def test_settings_check_kinds() -> None:
    assert Settings().kinds == ("chat", "video")
    assert Settings.from_env({"STOKER_KINDS": "video, video"}).kinds == ("video",)
    for wrong, why in (
        ("chat,audio", "audio is not one of the kinds chat, video"),
        (",", ".*at least 1 item"),
    ):
        with pytest.raises(ConfigurationError, match=f"STOKER_KINDS: {why}"):
            Settings.from_env({"STOKER_KINDS": wrong, "STOKER_WORKER": "chat"})


def test_settings_refuse_worker_of_a_kind_that_is_not_served() -> None:
    with pytest.raises(ConfigurationError, match=r"video is not among .* \(STOKER_KINDS=chat\)"):
        Settings.from_env({"STOKER_KINDS": "chat", "STOKER_WORKER": "video"})
