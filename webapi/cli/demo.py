"""`make demo`: starts the stack, runs a chat and a video, prints their times and memory, and stops it."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from webapi.cli.video import show_progress
from webapi.client import Client
from webapi.client.errors import Json
from webapi.client.timeline import Timeline
from webapi.keys.keys import Keys
from webapi.local import state_file
from webapi.local.commands import models_argv
from webapi.local.log_files import tail
from webapi.local.preflight import wait_for_redis
from webapi.local.supervisor import spawn
from worker.jobs.errors import StokerError
from worker.jobs.events import Token
from worker.jobs.home import protect_home
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings, child_env
from worker.jobs.specs import ChatJob, VideoJob
from worker.jobs.start_errors import EXPECTED, sentence
from worker.jobs.terminal import show_any_text

QUESTION = "What is the capital of Japan?"
CLIP = "carphone_pristine.mp4"
RESULT = Path("demo/result.mp4")
#: Seconds from the first process to warm models. A cold disk makes it long.
START_S = 180.0
#: The name of the demo's API key, and its lifetime in seconds.
KEY_NAME, KEY_S = "make demo", 3600


class DemoFailed(StokerError):
    """The stack failed to start or to stop."""

    code = "demo_failed"


def main() -> None:
    """Run the demo. If anything fails, print the last lines of the logs and exit with an error."""
    show_any_text()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logs: Path | None = None
    try:
        settings = Settings.from_env().replace(kinds=f"{ChatJob.kind},{VideoJob.kind}")
        protect_home(settings.home_dir)
        logs = settings.home_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        RESULT.parent.mkdir(exist_ok=True)
        _run(settings, logs / "up.log")
    except EXPECTED as error:
        for log in sorted(logs.glob("*.log")) if logs else ():
            click.echo(f"--- {log}\n{tail(log, 15)}", err=True)
        raise SystemExit(f"demo: {sentence(error)}") from error
    except KeyboardInterrupt:
        raise SystemExit("demo: interrupted") from None


def _run(settings: Settings, log: Path) -> None:
    if settings.redis_url:
        wait_for_redis(settings)  # before 100 MB are fetched
    files = models_argv(settings.chat_model, settings.video_model, CLIP)
    if code := subprocess.call(files, env=child_env(settings)):  # noqa: S603
        raise SystemExit(code)
    with running_stack(settings, log) as client:
        _run_jobs(client, settings.models_dir / CLIP)


@contextmanager
def running_stack(settings: Settings, log: Path, start_s: float = START_S) -> Iterator[Client]:
    """Start `stoker up` on a free port, and yield a client when all is warm. Stop it at the end.

    `log` is the file for its output. Raises `DemoFailed` if the stack is not warm after `start_s` seconds, or
    if it does not exit with 0 after its drain.
    """
    argv = [sys.executable, "-m", "webapi.cli", "up", "--port", "0"]
    with log.open("wb") as output:
        process = spawn(argv, child_env(settings), output)
    try:
        with _ready(process, settings, log, start_s) as client:
            yield client
    finally:
        click.echo("draining …")
        process.send_signal(signal.SIGINT)
        code = process.wait()
    if code:
        raise DemoFailed(f"the stack ended with {code}: {tail(log, 1)}")
    click.echo("stopped, nothing left running")


def _ready(process: "subprocess.Popen[bytes]", settings: Settings, log: Path, start_s: float) -> Client:
    """Wait until all models are warm, and return a client of the stack."""
    started, client = time.monotonic(), None
    while client is None or not client.ready():
        if process.poll() is not None:
            raise DemoFailed(f"the stack did not start: {tail(log, 1)}")
        if time.monotonic() - started > start_s:
            raise DemoFailed(f"the stack was not ready after {start_s:.0f} s")
        if client is None and state_file.read(settings).get("pid") == process.pid:
            found = state_file.follow(settings)
            client = Client(state_file.read(settings)["url"], _api_key(found))
            click.echo(f"starting: API {client.url}, Redis {found.redis_url}")
        if sys.stdout.isatty():
            click.echo(f"\rwarming up, {time.monotonic() - started:.0f} s ", nl=False)
        time.sleep(0.2)
    click.echo("\r" * sys.stdout.isatty() + f"all warm after {time.monotonic() - started:.1f} s\n")
    return client


def _api_key(settings: Settings) -> str | None:
    """Return the user's key. If there is none and the API asks for one, return a key of the demo's own."""
    store = RedisStore(settings)
    keys = Keys(store)
    try:
        if settings.api_key or not keys.any():
            return settings.api_key
        own = next((key for key in keys.list() if key.name == KEY_NAME and key.state != "revoked"), None)
        new = (
            keys.rotate(own.id, grace_s=0, expires_s=KEY_S) if own else keys.create(KEY_NAME, expires_s=KEY_S)
        )
        return new.text
    finally:
        store.close()


def _run_jobs(client: Client, clip: Path) -> None:
    """Run both jobs at the same time, and print one after the other.

    Events are numbered and kept, so those of the video can be read after the chat has ended.
    """
    chat_times, video_times = Timeline(), Timeline()
    video = client.submit_video(clip, "#00b140", effect="background")
    body = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 64}
    chat = client.submit_chat(body)
    click.echo(f"> {QUESTION}\n")
    for event in chat_times.watch(client.follow(chat["id"])):
        if isinstance(event.body, Token):
            click.echo(event.body.text, nl=False)
    click.echo(f"\n\nchat   {chat_times.summary('tokens')}\n")
    show_progress(video_times.watch(client.follow(video["id"])))
    client.download(video["id"], RESULT)
    click.echo(f"video  {video_times.summary('frames')}")
    click.echo(f"result {RESULT.absolute()}\n")
    _show_memory(client, client.job(chat["id"])["worker"], video["id"])


def _show_memory(client: Client, chat_worker: str, video_id: str) -> None:
    click.echo("memory, MiB allocated/reserved:")
    for card in client.workers():
        if card["name"] == chat_worker:
            click.echo(f"  chat worker     now {_mib(card['memory'])} ({card['memory']['source']})")
    report = client.memory(video_id)
    for batch in report["batches"]:
        if batch["first"] or batch["last"]:
            figures = f"before {_mib(batch['before'])}, after {_mib(batch['after'])}, peak {_peak(batch)}"
            size = f"{batch['frames']} real and {batch['padded']} padded frames"
            click.echo(f"  video batch {batch['index']:<3} {figures} ({batch['source']}), {size}")
    for used in report["devices"]:
        click.echo(f"  video worker    peak {_peak(used)} ({used['source']}) on {used['device']}")


def _peak(found: Json) -> str:
    return _mib({"allocated": found["peak_allocated"], "reserved": found["peak_reserved"]})


def _mib(sample: Json) -> str:
    return f"{sample['allocated'] / 2**20:.0f}/{sample['reserved'] / 2**20:.0f}"


if __name__ == "__main__":
    main()
