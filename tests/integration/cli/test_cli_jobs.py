"""Tests of `stoker chat`, `video` and `status` against the real API and a scripted worker."""

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.newer_events import NewerSucceeded, NewerToken, Remark
from tests.support.stack import eventually
from tests.support.web.uploads import write_clip
from tests.support.web.webstack import TIMEOUT_S, Web
from webapi.cli.main import main
from worker.jobs.events import Canceled, Event, Failed, Progress, Reasoning, Succeeded, Token, ToolCall
from worker.jobs.records import Record

ANSWER = [
    Token("The capital ", 0, 2),
    Token("is Tōkyō.", 2, 2),
    Succeeded({"finish_reason": "stop"}, {}),
]


#: Heartbeats come between all events. A client must not take one for an event.
SETTINGS = {"heartbeat_s": 0.05}


pytestmark = pytest.mark.usefixtures("stoker_url")


def stoker(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def with_worker(web: Web, work: Callable[[str], object], *arguments: object) -> Result:
    """Run the command while a worker claims the only job that the command submits, and runs `work` on it."""

    def serve_one() -> None:
        eventually(web.ledger.page, "a job")
        job_id = web.ledger.page()[0].id
        web.worker.claim(job_id)
        work(job_id)

    with ThreadPoolExecutor() as pool:
        worker = pool.submit(serve_one)
        result = stoker(*arguments)
        worker.result(TIMEOUT_S)
    return result


def fails(result: Result, sentence: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.sub("^job [0-9a-f]{32}\n", "", result.stderr) == f"Error: {sentence}\n"


def test_chat_prints_answer_and_timeline(web: Web) -> None:
    def work(job_id: str) -> None:
        for event in ANSWER:
            threading.Event().wait(0.1)  # a heartbeat comes in between
            web.worker.append(job_id, event)

    limits = ("--max-tokens", 9, "--min-tokens", 2, "--ignore-eos", "--stop", "a", "--stop", "b")
    options = ("--temperature", 0, "--system", "Be brief", *limits)
    result = with_worker(web, work, "chat", "Capital?", *options)
    assert (result.exit_code, result.stdout) == (0, "The capital is Tōkyō.\n")
    assert result.stderr.startswith(f"job {web.ledger.page()[0].id}\n4 tokens, ")
    spec = web.ledger.page()[0].spec
    given = {"max_tokens": 9, "temperature": 0.0, "stop": ["a", "b"], "top_p": 1.0, "seed": None}
    given |= {"ignore_eos": True, "min_tokens": 2}
    assert given.items() <= spec.model_dump().items()
    assert [m["role"] for m in spec.model_dump()["messages"]] == ["system", "user"]


def test_chat_prints_calls_as_lines_and_reasoning_apart(web: Web) -> None:
    events: list[Event] = [
        Reasoning("The user asks. ", 0, 3),
        Token("I look.", 3, 2),
        ToolCall(0, '{"city": ', 2, "call_a", "weather"),
        ToolCall(0, '"Tokyo"}', 2),
        ToolCall(1, "{}", 1, "call_b", "now"),
        Succeeded({"finish_reason": "tool_calls"}, {}),
    ]
    result = with_worker(web, lambda job: web.worker.append(job, *events), "chat", "Weather?")
    assert result.stdout == 'I look.\nweather {"city": "Tokyo"}\nnow {}\n'
    assert "The user asks. " in result.stderr
    assert "10 tokens" in result.stderr


def test_chat_prints_answer_of_newer_server(web: Web) -> None:
    done = NewerSucceeded({"finish_reason": "stop"}, {})
    work = [Remark(), NewerToken("Tōkyō.", 0, 3), Remark(), done]
    result = with_worker(web, lambda job_id: web.worker.append(job_id, *work), "chat", "Capital?")
    assert (result.exit_code, result.stdout) == (0, "Tōkyō.\n")
    assert "\n3 tokens, " in result.stderr


def test_chat_without_a_prompt_takes_each_line_as_a_message(web: Web) -> None:
    asked = list[list[tuple[str, str]]]()

    def newest(count: int) -> list[Record]:
        return found if len(found := list(web.ledger.page())) == count else []

    def work() -> None:
        for number, answer in enumerate(("Tōkyō.", "Brussels."), 1):
            job, *_ = eventually(partial(newest, number), f"job {number}")
            asked.append([(each["role"], each["content"]) for each in job.spec.model_dump()["messages"]])
            web.worker.claim(job.id)
            web.worker.append(job.id, Token(answer, 0, 1), ANSWER[-1])

    lines = "/system Be brief.\nJapan?\n\nBelgium?\n/exit\nnever read\n"
    with ThreadPoolExecutor() as pool:
        worker = pool.submit(work)
        result = CliRunner().invoke(main, ["chat", "--temperature", "0"], input=lines)
        worker.result(TIMEOUT_S)
    assert (result.exit_code, result.stdout) == (0, "Tōkyō.\nBrussels.\n")
    first = [("system", "Be brief."), ("user", "Japan?")]
    assert asked == [first, [*first, ("assistant", "Tōkyō."), ("user", "Belgium?")]]


def test_chat_without_a_prompt_ends_at_an_error_of_a_script(web: Web) -> None:
    for lines, sentence in (
        ("/model nobody\nHi\n", "The model 'nobody' does not exist."),
        ("/save\nHi\n", "name a new file, as in /save conversation.json"),
    ):
        fails(CliRunner().invoke(main, ["chat"], input=lines), sentence)
    assert web.is_untouched()


def test_chat_reports_failed_job_in_one_sentence(web: Web) -> None:
    failed = Failed("engine_failed", "the engine is on fire")
    result = with_worker(web, lambda job_id: web.worker.append(job_id, failed), "chat", "Hi")
    fails(result, "the job failed: engine_failed: the engine is on fire")


def test_chat_reports_canceled_job_in_one_sentence(web: Web) -> None:
    result = with_worker(web, lambda job_id: web.worker.append(job_id, Canceled()), "chat", "Hi")
    fails(result, "the job was canceled")


def test_chat_reports_detail_of_refusal(web: Web) -> None:
    fails(
        stoker("chat", "Hi", "--temperature", -1), "temperature: Input should be greater than or equal to 0"
    )


@pytest.mark.parametrize("command", [("chat", "Hi"), ("status",)])
def test_client_commands_report_missing_api_in_one_sentence(command: tuple[str, ...]) -> None:
    result = stoker(*command, "--url", "http://127.0.0.1:1")
    way_out = "start it with `stoker up`, or set STOKER_URL"
    fails(result, f"there is no API at http://127.0.0.1:1 (Connection refused): {way_out}")


def test_video_shows_progress_and_saves_result(web: Web, tmp_path: Path) -> None:
    clip = tmp_path / "in.mp4"
    write_clip(clip)

    def work(job_id: str) -> None:
        (web.settings.media_dir / job_id / "result.mp4").write_bytes(b"the result")
        events: list[Event] = [Progress(2, 3, "frames"), Progress(3, 3, "frames"), Succeeded({}, {})]
        web.worker.append(job_id, *events)

    output = tmp_path / "out" / "result.mp4"
    output.parent.mkdir()
    result = with_worker(web, work, "video", clip, "-o", output, "--effect", "blur", "--no-deinterlace")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"{output}: 3 frames, " in result.stderr
    assert output.read_bytes() == b"the result"
    assert list(output.parent.iterdir()) == [output]
    assert {"effect": "blur", "deinterlace": False}.items() <= web.ledger.page()[0].spec.model_dump().items()


def test_video_refuses_an_output_that_cannot_be_written_before_the_upload(web: Web, tmp_path: Path) -> None:
    clip = tmp_path / "in.mp4"
    write_clip(clip)
    for folder, why in ((tmp_path / "none", "No such file or directory"), (Path("/proc"), ".+")):
        result = stoker("video", clip, "-o", folder / "out.mp4")
        assert result.exit_code == 1
        assert re.fullmatch(f"Error: {folder}: {why}: choose another file with -o\n", result.stderr)
    assert web.is_untouched()


def test_video_failed_download_leaves_no_file(web: Web, tmp_path: Path) -> None:
    clip, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_clip(clip)
    result = with_worker(
        web, lambda job: web.worker.append(job, Succeeded({}, {})), "video", clip, "-o", output
    )
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("Error: the result's file is gone\n")
    assert list(tmp_path.iterdir()) == [clip]


def test_status_shows_queues_jobs_and_workers(web: Web) -> None:
    web.ready_worker("chat")
    running, first, second = (web.submit() for _ in range(3))
    web.worker.claim(running)
    web.worker.append(running, ANSWER[0], done=2, total=9)
    rows = [line.split() for line in stoker("status").stdout.splitlines()]
    assert ["chat.tiny", "2", "1", "2", "1000", "unknown"] in rows
    assert [running, "chat", "tiny", "running", "2/9", "tokens", "1", "scripted"] in rows
    assert [first, "chat", "tiny", "queued", "position", "1", "0", "-"] in rows
    assert [second, "chat", "tiny", "queued", "position", "2", "0", "-"] in rows
    assert ["chat1", "ready", "cpu", "tiny", "fake", "0/2", "-"] in rows
    document = json.loads(stoker("status", "--json").stdout)
    assert [job["id"] for job in document["jobs"]] == [first, second, running]
    assert [card["name"] for card in document["workers"]] == ["chat1"]
