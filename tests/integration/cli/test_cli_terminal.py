"""Tests of commands on a real terminal, against the real API."""

import json
import re
from pathlib import Path

from tests.support.cli import stoker_argv, stoker_env
from tests.support.stack import eventually
from tests.support.terminal import on_terminal
from tests.support.web.webstack import Web
from worker.jobs.events import Canceled, Progress, Succeeded, Token

DONE = Succeeded({"finish_reason": "stop"}, {})


def test_jobs_watch_shows_a_new_job_until_ctrl_c(web: Web, tmp_path: Path) -> None:
    env = stoker_env(tmp_path, STOKER_URL=str(web.http.base_url))
    with on_terminal(stoker_argv("jobs", "--watch"), env) as terminal:
        terminal.until("WORKER")
        job_id = web.submit()
        terminal.until(job_id)
        terminal.type("\x03")
        assert terminal.ends() == 0


def test_conversation_goes_on_after_ctrl_c_and_an_error(web: Web, tmp_path: Path) -> None:
    env, saved = stoker_env(tmp_path, STOKER_URL=str(web.http.base_url)), tmp_path / "saved.json"
    with on_terminal(stoker_argv("chat"), env) as terminal:
        terminal.until("> ")
        terminal.type("Hi\n")
        job_id = eventually(web.ledger.page, "a job")[0].id
        web.worker.claim(job_id)
        web.worker.append(job_id, Token("one", 0, 1))
        terminal.until("one")
        terminal.type("\x03")
        terminal.until("> ")
        assert web.worker.append(job_id, Token(" two", 1, 1)) == "cancel"
        web.worker.append(job_id, Canceled())
        for line, answer in {
            "/nonsense": "Error: there is no command /nonsense: /help lists them",
            "/model nobody": "Error: The model 'nobody' does not exist.",
            "/help": "/save FILE",
            "/save": "Error: name a new file, as in /save conversation.json",
            f"/save {saved}": "> ",
            f"/save {tmp_path}": "File exists",
        }.items():
            terminal.type(f"{line}\n")
            terminal.until(answer)
        terminal.until("> ")
        terminal.type("dropped")
        terminal.interrupt_until("> ")
        terminal.type("\x04")
        assert terminal.ends() == 0
    messages = [("user", "Hi"), ("assistant", "one")]
    assert [(each["role"], each["content"]) for each in json.loads(saved.read_text())] == messages


def test_video_shows_the_upload_the_queue_and_the_time_left(web: Web, clip: bytes, tmp_path: Path) -> None:
    env = stoker_env(tmp_path, STOKER_URL=str(web.http.base_url))
    (tmp_path / "in.mp4").write_bytes(clip)
    argv = stoker_argv("video", tmp_path / "in.mp4", "-o", tmp_path / "out.mp4")
    with on_terminal(argv, env) as terminal:
        terminal.until("upload: ")
        job_id = eventually(web.ledger.page, "a job")[0].id
        terminal.until("place 1 in the queue")
        web.worker.claim(job_id)
        terminal.until("video: ")
        web.worker.append(job_id, Progress(2, 4, "frames"))
        terminal.until("2/4 ")
        assert re.match(r"\[\d\d:\d\d<\d\d:\d\d, +[\d.]+$", terminal.until("frame/s"))
        (web.settings.media_dir / job_id / "result.mp4").write_bytes(b"the result")
        web.worker.append(job_id, Progress(4, 4, "frames"), Succeeded({}, {}))
        terminal.until("out.mp4: 4 frames, ")
        assert terminal.ends() == 0
