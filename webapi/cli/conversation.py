"""A conversation with a model: `stoker chat` without a prompt."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from webapi.cli.answer import Answer
from webapi.client import ApiError, Client
from webapi.client.errors import Json
from worker.jobs.start_errors import sentence

__all__ = ["Conversation"]


class Conversation:
    """The messages so far, and the options of the next request.

    A line is a message, or a command if it begins with `/`. An answer that is stopped stays in the
    conversation as far as it came. A message without an answer does not.
    """

    def __init__(self, client: Client, options: Json, system: str | None) -> None:
        self.client = client
        self._options = options
        self._system = system
        self._messages: list[Json] = []
        self._commands: dict[str, tuple[Callable[[str], None], str]] = {
            "/model": (self._choose_model, "NAME: ask this model from now on"),
            "/system": (self._set_system, "[TEXT]: set the system message, or take it away"),
            "/save": (self._save, "FILE: save the messages as JSON, in a new file"),
            "/help": (self._help, "list the commands"),
            "/exit": (self._exit, "end the conversation, as Ctrl-D does"),
        }

    def body(self, prompt: str) -> Json:
        """Return the body of the request that continues the conversation with this prompt."""
        return self._options | {"messages": [*self._all(), {"role": "user", "content": prompt}]}

    def run(self) -> None:
        """Read lines and answer them until the input ends.

        At a terminal, Ctrl-C stops an answer only, and an error is printed. Elsewhere both end the program.
        """
        asking = sys.stdin.isatty()
        if asking:
            import readline  # noqa: F401  # edits the lines of `input`, and keeps them for the arrow keys

            click.echo("Each line is a message. /help lists the commands, Ctrl-D ends.", err=True)
        prompt = "> " if asking and sys.stdout.isatty() else ""
        while True:
            try:
                self._take(input(prompt), asking)
            except EOFError:
                return
            except KeyboardInterrupt:
                if not asking:
                    raise
                click.echo(err=True)

    def _take(self, line: str, asking: bool) -> None:
        try:
            self._obey(line)
        except (ApiError, OSError, click.ClickException) as error:
            if not asking or isinstance(error, BrokenPipeError):
                raise
            click.echo(f"Error: {sentence(error)}", err=True)

    def _obey(self, line: str) -> None:
        name, _, rest = line.strip().partition(" ")
        if not name:
            return
        if not name.startswith("/"):
            self._ask(line)
        elif name in self._commands:
            self._commands[name][0](rest.strip())
        else:
            raise click.ClickException(f"there is no command {name}: /help lists them")

    def _ask(self, prompt: str) -> None:
        body, answer = self.body(prompt), Answer()
        try:
            answer.show(self.client, body)
        finally:
            if answer.text:
                question = {"role": "user", "content": prompt}
                self._messages += [question, {"role": "assistant", "content": answer.text}]

    def _all(self) -> list[Json]:
        system = [{"role": "system", "content": self._system}] if self._system else []
        return system + self._messages

    def _choose_model(self, name: str) -> None:
        if not name:
            raise click.ClickException("name a model, as in /model NAME")
        self._options["model"] = self.client.model(name)["id"]

    def _set_system(self, text: str) -> None:
        self._system = text

    def _save(self, path: str) -> None:
        if not path:
            raise click.ClickException("name a new file, as in /save conversation.json")
        with Path(path).expanduser().open("x", encoding="utf-8") as file:
            json.dump(self._all(), file, indent=2, ensure_ascii=False)
            file.write("\n")

    def _help(self, _: str) -> None:
        for name, (_run, meaning) in self._commands.items():
            click.echo(f"{name} {meaning}", err=True)

    def _exit(self, _: str) -> None:
        raise EOFError
