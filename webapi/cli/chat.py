"""`stoker chat`: asks one question."""

import uuid
from typing import Any

import click

from webapi.cli.api import URL, client_of
from webapi.cli.prompt_options import prompt_options
from webapi.cli.sampling_options import sampling_options
from webapi.cli.shown_job import shown
from webapi.client import Client
from webapi.client.errors import Json
from webapi.client.timeline import Timeline
from worker.jobs.events import Event, Reasoning, Token, ToolCall

__all__ = ["chat"]


@click.command()
@URL
@click.argument("prompt")
@click.option("--system", help="System message before the prompt.")
@click.option("--model", help="Name of the model. Needed if several are served.")
@sampling_options
@prompt_options
def chat(url: str | None, prompt: str, system: str | None, **options: Any) -> None:
    """Submit PROMPT as a chat and print the answer as it arrives. Ctrl-C cancels the job.

    A second Ctrl-C leaves the job running.
    """
    messages = [{"role": "system", "content": system}] if system else []
    body = {"messages": [*messages, {"role": "user", "content": prompt}], **options}
    client = client_of(url)
    job = _submit_chat(client, {name: value for name, value in body.items() if value not in (None, (), {})})
    timeline = Timeline()
    with shown(client, job):
        for event in timeline.watch(client.follow(job["id"])):
            _show_answer(event.body)
    click.echo()
    click.echo(timeline.summary("tokens"), err=True)


def _show_answer(event: Event | None) -> None:
    """Print a part of an answer. Reasoning is not a part of the output that a program may read."""
    match event:
        case Token(text=text):
            click.echo(text, nl=False)
        case Reasoning(text=text):
            click.secho(text, nl=False, err=True, dim=True)
        case ToolCall(name=name, arguments=arguments):
            click.echo(f"\n{name} {arguments}" if name else arguments, nl=False)


def _submit_chat(client: Client, body: Json) -> Json:
    """Submit the chat, and return its job. Ctrl-C before the API has answered cancels the job, too."""
    key = uuid.uuid4().hex
    try:
        return client.submit_chat(body, idempotency_key=key)
    except KeyboardInterrupt:
        client.cancel(client.submit_chat(body, idempotency_key=key)["id"])  # the same job, if there is one
        raise
