"""The command line: `stoker up`, `worker`, `web`, `chat`, `video`, `status`, `keys`, `models`."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from redis.exceptions import RedisError

from webapi.auth import public_bind
from webapi.cli.jobs import chat, status, video
from webapi.cli.keys import keys
from webapi.local import commands, stack, state_file
from worker.jobs.errors import StokerError
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.media.open import open_media_store
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


for command in (chat, video, status, keys):
    main.add_command(command)

_NO_AUTH = click.option("--no-auth", is_flag=True, default=None, help="Trust everyone who reaches the API.")


@main.command()
@click.option("--host", help="Address of the API.")
@click.option("--port", type=int, help="Port of the API; 0 takes any free one.")
@_NO_AUTH
@click.option("--verbose", is_flag=True, help="Show the logs of all processes here.")
def up(host: str | None, port: int | None, no_auth: bool | None, verbose: bool) -> None:
    """Run the whole stack on this machine until Ctrl-C."""
    stack.up(Settings.from_env().replace(host=host, port=port, no_auth=no_auth), verbose=verbose)


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
    settings = Settings.from_env().replace(worker="chat", **changes)
    _exec(commands.worker_argv("chat", settings), settings)


@worker.command("video")
@_worker_options
@click.option("--batch-size", type=int, help="Frames in a batch.")
@click.option("--pad/--no-pad", default=None, help="Whether the short last batch is filled up.")
@click.option("--compile", is_flag=True, default=None, help="Have torch compile the model.")
def worker_video(devices: str | None, model: str | None, **changes: int | bool | None) -> None:
    """Serve videos."""
    settings = Settings.from_env().replace(worker="video", devices=devices, video_model=model, **changes)
    _exec(commands.worker_argv("video", settings), settings)


@worker.command("webhooks")
def worker_webhooks() -> None:
    """Send webhooks; needs no GPU."""
    settings = Settings.from_env()
    _exec(commands.webhooks_argv(settings), settings)


@worker.command("health")
def worker_health() -> None:
    """Tell whether a worker of this host is warm; for containers, where it is the only one."""
    ledger = Ledger(state_file.apply_to(Settings.from_env()))
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
    settings = Settings.from_env().replace(host=host, port=port, no_auth=no_auth)
    public_bind.require_auth(settings)
    open_media_store(settings)  # if it cannot work that is told here, and not by each of gunicorn's processes
    _exec(commands.web_argv(settings), settings)


def _exec(argv: list[str], settings: Settings) -> None:
    """Become that program, so that signals reach it and not a parent in between."""
    sys.stdout.flush()
    os.execve(argv[0], argv, child_env(settings))  # noqa: S606  # no shell is wanted


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def models(arguments: Sequence[str]) -> None:
    """Fetch and verify the default models; --list, --check, --help."""
    _exec(commands.models_argv(*arguments), Settings.from_env())
