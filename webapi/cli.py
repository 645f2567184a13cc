"""The command line: `stoker up`, `worker`, `web`, `chat`, `video`, `status`, `keys`, `models`."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from redis.exceptions import RedisError
from tqdm import tqdm

from webapi import exposure, local, table, whereabouts
from webapi.client import Client, Json
from webapi.keys_cli import keys
from webapi.timeline import Timeline
from worker.jobs.errors import StokerError
from worker.jobs.ledger import Ledger
from worker.jobs.media import media_of
from worker.jobs.registry import Registry
from worker.jobs.settings import Settings, child_env

__all__ = ["main"]


class _OneSentence(click.Group):
    """Turns what goes wrong on purpose, or on the disk, into one sentence and a nonzero exit."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read our output has left; click ends quietly
            raise
        except (StokerError, OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
        except RedisError as error:
            raise click.ClickException(f"Redis does not answer: {error}") from error


@click.group(cls=_OneSentence, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Stoker keeps GPUs warm and fed: chat and video jobs through Flask, Redis and Celery solo workers."""


main.add_command(keys)

_NO_AUTH = click.option("--no-auth", is_flag=True, default=None, help="Trust everyone who reaches the API.")


@main.command()
@click.option("--host", help="Address of the API.")
@click.option("--port", type=int, help="Port of the API; 0 takes any free one.")
@_NO_AUTH
@click.option("--verbose", is_flag=True, help="Show the logs of all processes here.")
def up(host: str | None, port: int | None, no_auth: bool | None, verbose: bool) -> None:
    """Run the whole stack on this machine until Ctrl-C."""
    local.up(Settings.from_env().updated(host=host, port=port, no_auth=no_auth), verbose=verbose)


@main.group()
def worker() -> None:
    """Run one worker."""


def _worker_options(command: Callable[..., None]) -> Callable[..., None]:
    devices = click.option("--devices", help="auto, cpu, GPU indexes such as 0 or 0,1, or a GPU UUID.")
    model = click.option("--model", help="A default model's name, or a path.")
    return devices(model(command))


@worker.command("chat")
@_worker_options
@click.option("--engine", type=click.Choice(["auto", "transformers", "vllm"]), help="What runs the model.")
@click.option("--slots", type=int, help="Chats that run at once.")
def worker_chat(devices: str | None, model: str | None, engine: str | None, slots: int | None) -> None:
    """Serve chats."""
    changes = {"devices": devices, "chat_model": model, "engine": engine, "slots": slots}
    settings = Settings.from_env().updated(worker="chat", **changes)
    _exec(local.worker_argv("chat", settings), settings)


@worker.command("video")
@_worker_options
@click.option("--batch-size", type=int, help="Frames in a batch.")
@click.option("--pad/--no-pad", default=None, help="Whether the short last batch is filled up.")
@click.option("--compile", is_flag=True, default=None, help="Have torch compile the model.")
def worker_video(devices: str | None, model: str | None, **changes: int | bool | None) -> None:
    """Serve videos."""
    settings = Settings.from_env().updated(worker="video", devices=devices, video_model=model, **changes)
    _exec(local.worker_argv("video", settings), settings)


@worker.command("webhooks")
def worker_webhooks() -> None:
    """Send webhooks; needs no GPU."""
    settings = Settings.from_env()
    _exec(local.webhooks_argv(settings), settings)


@worker.command("health")
def worker_health() -> None:
    """Tell whether a worker of this host is warm; for containers, where it is the only one."""
    ledger = Ledger(whereabouts.follow(Settings.from_env()))
    try:
        cards = [card for card in Registry(ledger).live() if card.host == os.uname().nodename]
    finally:
        ledger.redis.close()
    for card in cards:
        click.echo(f"{card.name} is {card.state}")
    if all(card.state == "warming" for card in cards):
        raise click.ClickException("no worker of this host is warm")


@main.command()
@click.option("--host", help="Address to bind to.")
@click.option("--port", type=int, help="Port to bind to.")
@_NO_AUTH
def web(host: str | None, port: int | None, no_auth: bool | None) -> None:
    """Run the API under gunicorn."""
    settings = Settings.from_env().updated(host=host, port=port, no_auth=no_auth)
    exposure.check(settings)
    media_of(settings)  # if it cannot work that is told here, and not by each of gunicorn's processes
    _exec(local.web_argv(settings), settings)


def _exec(argv: list[str], settings: Settings) -> None:
    """Become that program, so that signals reach it and not a parent in between."""
    sys.stdout.flush()
    os.execve(argv[0], argv, child_env(settings))  # noqa: S606  # no shell is wanted


_URL = click.option("--url", help="The API; default STOKER_URL, else that of the running `stoker up`.")


def _client(url: str | None) -> Client:
    settings = whereabouts.follow(Settings.from_env())
    return click.get_current_context().with_resource(Client(url or settings.url, settings.api_key))


@main.command()
@_URL
@click.argument("prompt")
@click.option("--system", help="A system message to put first.")
@click.option("--model")
@click.option("--max-tokens", type=int)
@click.option("--temperature", type=float, help="0 is greedy.")
@click.option("--top-p", type=float)
@click.option("--seed", type=int)
@click.option("--stop", multiple=True, help="End the answer before this text; may be given again.")
def chat(url: str | None, prompt: str, system: str | None, stop: Sequence[str], **options: Any) -> None:
    """Ask one thing and stream the answer. Ctrl-C cancels it."""
    messages = [{"role": "system", "content": system}] if system else []
    body = {"messages": [*messages, {"role": "user", "content": prompt}], "stop": list(stop), **options}
    client = _client(url)
    job = client.submit_chat({name: value for name, value in body.items() if value not in (None, [])})
    timeline = Timeline()
    with _canceling(client, job):
        for event in timeline.watch(client.follow(job["id"])):
            click.echo(event.get("text", ""), nl=False)
    click.echo()
    click.echo(timeline.summary("tokens"), err=True)


@main.command()
@_URL
@click.argument("clip", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--effect", type=click.Choice(["background", "blur", "matte"]))
@click.option("--background", help="A colour as #rrggbb, or an image file.")
@click.option("--pad", type=click.Choice(["last", "zeros"]), help="What fills the last batch.")
@click.option("--model")
def video(url: str | None, clip: Path, output: Path, background: str | None, **form: Any) -> None:
    """Put CLIP through the model and save the result. Ctrl-C cancels it."""
    if not output.absolute().parent.is_dir():
        raise click.ClickException(f"there is no folder {output.absolute().parent}")
    if background and not background.startswith("#") and not Path(background).is_file():
        raise click.ClickException(f"background: {background} is neither #rrggbb nor an image file")
    client = _client(url)
    job = client.submit_video(clip, background, **form)
    timeline = Timeline()
    with _canceling(client, job):
        show_progress(timeline.watch(client.follow(job["id"])))
    client.download(job["id"], output)
    click.echo(f"{output}: {timeline.summary('frames')}", err=True)


def show_progress(events: Iterator[Json]) -> None:
    """A progress bar for a video job, to its end."""
    with tqdm(unit="frame", disable=None) as bar:
        for event in events:
            if event["type"] == "progress":
                bar.total = event["total"]
                bar.update(event["done"] - bar.n)


@contextmanager
def _canceling(client: Client, job: Json) -> Iterator[None]:
    """Cancel the job when the user interrupts us, or the reader of our output leaves."""
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        client.cancel(job["id"])
        raise


@main.command()
@_URL
@click.option("--json", "as_json", is_flag=True, help="The API's own answers, as JSON.")
def status(url: str | None, as_json: bool) -> None:
    """Show queues, the jobs in them, and workers."""
    client = _client(url)
    queues, workers = client.queues(), client.workers()
    listed = client.jobs("queued")[::-1] + client.jobs("running")
    jobs = list({job["id"]: job for job in listed}.values())  # one may have started in between
    if as_json:
        click.echo(json.dumps({"queues": queues, "jobs": jobs, "workers": workers}, indent=2))
        return
    for title, rows in (
        ("QUEUE WAITING RUNNING SLOTS CAP WAIT", map(_queue_row, queues)),
        ("JOB KIND STATE PROGRESS ATTEMPT WORKER", map(_job_row, jobs)),
        ("WORKER STATE DEVICE MODEL ENGINE RUNNING MEMORY", map(_worker_row, workers)),
    ):
        table.show(title, rows)
        click.echo()


def _queue_row(queue: Json) -> Sequence[object]:
    wait = queue["estimated_wait_s"]
    counts = [queue[name] for name in ("name", "waiting", "running", "slots", "max_waiting")]
    return [*counts, "unknown" if wait is None else f"{wait:.0f} s"]


def _job_row(job: Json) -> Sequence[object]:
    done = job["progress"]
    progress = f"{done['done']}/{done['total'] or '?'} {done['unit']}"
    if job["state"] == "queued":
        progress = f"position {job['queue_position'] or '?'}"  # it may have just left the queue
    return [job["id"], job["kind"], job["state"], progress, job["attempt"], job["worker"] or "-"]


def _worker_row(card: Json) -> Sequence[object]:
    memory, places = card["memory"], f"{card['running']}/{card['slots']}"
    used = f"{memory['allocated'] / 2**20:.0f} MiB ({memory['source']})" if memory else "-"
    return [card["name"], card["state"], card["device"], card["model"], card["engine"], places, used]


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def models(arguments: Sequence[str]) -> None:
    """Fetch and verify the default models; --list, --check, --help."""
    _exec(local.models_argv(*arguments), Settings.from_env())


if __name__ == "__main__":
    main()
