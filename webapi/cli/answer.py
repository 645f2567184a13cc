"""The answer of a chat, printed as it arrives."""

import uuid

import click

from webapi.cli.shown_job import shown
from webapi.client import Client
from webapi.client.errors import Json
from webapi.client.timeline import Timeline
from worker.jobs.events import Event, Reasoning, Token, ToolCall

__all__ = ["Answer"]


class Answer:
    """The answer to one request. `text` is what has arrived of it, without reasoning and calls of tools."""

    def __init__(self) -> None:
        self.text = ""

    def show(self, client: Client, body: Json) -> None:
        """Submit the chat `body` and print its answer, then its times on standard error.

        Ctrl-C cancels the job. Raises `ApiError` if the job is refused, fails or is canceled.
        """
        job, timeline = _submit(client, body), Timeline()
        with shown(client, job):
            for event in timeline.watch(client.follow(job["id"])):
                self._print(event.body)
        click.echo()
        click.secho(timeline.summary("tokens"), err=True, dim=True)

    def _print(self, event: Event | None) -> None:
        """Print a part of the answer. Reasoning is not a part of the output that a program may read."""
        match event:
            case Token(text=text):
                self.text += text
                click.echo(text, nl=False)
            case Reasoning(text=text):
                click.secho(text, nl=False, err=True, dim=True)
            case ToolCall(name=name, arguments=arguments):
                click.echo(f"\n{name} {arguments}" if name else arguments, nl=False)


def _submit(client: Client, body: Json) -> Json:
    """Submit the chat, and return its job. Ctrl-C before the API has answered cancels the job, too."""
    key = uuid.uuid4().hex
    try:
        return client.submit_chat(body, idempotency_key=key)
    except KeyboardInterrupt:
        client.cancel(client.submit_chat(body, idempotency_key=key)["id"])  # the same job, if there is one
        raise
