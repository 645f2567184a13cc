"""The command `stoker`: `up`, `worker`, `web`, `models` and `check`, and the other modules' commands."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from webapi.auth import public_bind
from webapi.cli.chat import chat
from webapi.cli.command_group import NO_COLOR, CommandGroup
from webapi.cli.completion import completion
from webapi.cli.doctor import doctor
from webapi.cli.jobs import cancel, jobs, retry, status
from webapi.cli.keys import keys
from webapi.cli.models import show_model
from webapi.cli.operations import drain, queue
from webapi.cli.settings import show_settings
from webapi.cli.video import video
from webapi.local import commands, preflight, stack, state_file
from worker.jobs.home import protect_home
from worker.jobs.kinds import KINDS, Kind
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.media.open import open_media_store
from worker.jobs.settings import Settings, child_env
from worker.jobs.specs import ChatJob, VideoJob

__all__ = ["main"]


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@NO_COLOR
def main() -> None:
    """Run chat and video jobs on GPUs whose models stay loaded.

    The API is a Flask app, the job store is Redis, and the workers are Celery workers with the solo pool.
    """


for command in (chat, video, jobs, status, cancel, retry, queue, keys, show_settings, completion, doctor):
    main.add_command(command)

_NO_AUTH = click.option(
    "--no-auth", is_flag=True, default=None, help="Trust every client that reaches the API."
)


@main.command()
@click.option("--host", help="Address on which the API listens.")
@click.option("--port", type=int, help="Port of the API. 0 takes any free port.")
@_NO_AUTH
@click.option("--verbose", is_flag=True, help="Print the logs of all processes.")
def up(host: str | None, port: int | None, no_auth: bool | None, verbose: bool) -> None:
    """Run the whole stack on this machine until Ctrl-C."""
    stack.up(Settings.from_env().replace(host=host, port=port, no_auth=no_auth), verbose=verbose)


@main.group()
def worker() -> None:
    """Run a worker, or check the workers of this host."""


#: The options of a worker of each kind, besides `--devices` and `--model`. Each sets the setting of its name.
_WORKER_OPTIONS: Mapping[str, Sequence[click.Option]] = {
    ChatJob.kind: [
        click.Option(
            ["--engine"],
            type=click.Choice(["auto", "transformers", "vllm"]),
            help="Engine that runs the model.",
        ),
        click.Option(["--slots"], type=int, help="Number of chats that run at the same time."),
    ],
    VideoJob.kind: [
        click.Option(
            ["--weights", "video_weights"],
            type=click.Path(path_type=Path),
            help="File of the model's weights.",
        ),
        click.Option(["--name", "video_name"], help="Name by which requests ask for the model."),
        click.Option(["--slots", "video_slots"], type=int, help="Number of videos that run at once."),
        click.Option(["--batch-size"], type=int, help="Number of frames in a batch."),
        click.Option(["--compile"], is_flag=True, default=None, help="Compile the model with torch."),
    ],
}


def _worker_command(kind: Kind) -> click.Command:
    """Return the command that runs a worker of this kind."""

    def run(**changes: object) -> None:
        preflight.require("torch", "worker")
        settings = _settings().replace(worker=kind.name, **changes)
        _exec(commands.worker_argv(kind.name, settings), settings)

    options: list[click.Parameter] = [
        click.Option(["--devices"], help="auto, cpu, GPU indexes such as 0 or 0,1, or a GPU UUID."),
        click.Option(["--model", kind.model_setting], help=kind.models),
        *_WORKER_OPTIONS.get(kind.name, ()),
    ]
    return click.Command(kind.name, callback=run, params=options, help=f"Run a {kind.name} worker.")


for each in KINDS.values():
    worker.add_command(_worker_command(each))


worker.add_command(drain)


@worker.command("webhooks")
def worker_webhooks() -> None:
    """Run the worker that sends webhooks. It needs no GPU."""
    settings = _settings()
    _exec(commands.webhooks_argv(settings), settings)


@worker.command("health")
def worker_health() -> None:
    """Check that a worker of this host is warm.

    This is the health check of containers, in which the worker is the only one.
    """
    store = RedisStore(_settings())
    try:
        cards = [card for card in Registry(store).live() if card.host == os.uname().nodename]
    finally:
        store.close()
    for card in cards:
        click.echo(f"{card.name} is {card.state}")
    if all(card.state == "warming" for card in cards):
        raise click.ClickException("no worker of this host is warm")


@main.command()
@click.option("--host", help="Address on which the API listens.")
@click.option("--port", type=int, help="Port of the API.")
@_NO_AUTH
def web(host: str | None, port: int | None, no_auth: bool | None) -> None:
    """Run the API under gunicorn."""
    settings = _settings().replace(host=host, port=port, no_auth=no_auth)
    public_bind.require_auth(settings)
    preflight.free_port(settings.host, settings.port)
    if settings.otlp_endpoint:
        preflight.require("opentelemetry", "otel")
    # Opened here so that this process, and not each of gunicorn's, reports a store that cannot work.
    open_media_store(settings)
    _exec(commands.web_argv(settings), settings)


def _settings() -> Settings:
    """Return the settings of a process beside the running `stoker up`, if there is one."""
    return state_file.follow(Settings.from_env())


def _exec(argv: list[str], settings: Settings) -> None:
    """Replace this process by the program, so that signals reach the program directly."""
    sys.stdout.flush()
    protect_home(settings.home_dir)
    os.execve(argv[0], argv, child_env(settings))  # noqa: S606  # starts without a shell on purpose


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def models(ctx: click.Context, arguments: Sequence[str]) -> None:
    """Download and verify the models of the served kinds, or show the options of a model.

    Its options are --list, --check, --json and --help. `stoker models show NAME` shows a model's options.
    """
    if arguments[:1] == ("show",):
        with show_model.make_context("models show", [*arguments[1:]], parent=ctx.parent) as show:
            show_model.invoke(show)
            return
    _exec(commands.models_argv(*arguments), Settings.from_env())


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def check(arguments: Sequence[str]) -> None:
    """Test whether a frame model keeps its contract, and measure it.

    `stoker check --help` shows its arguments.
    """
    preflight.require("torch", "worker")
    _exec(commands.check_argv(*arguments), Settings.from_env())
