"""`stoker chat`: asks one question, or leads a conversation."""

from typing import Any

import click

from webapi.cli.answer import Answer
from webapi.cli.api import URL, client_of
from webapi.cli.conversation import Conversation
from webapi.cli.prompt_options import prompt_options
from webapi.cli.sampling_options import sampling_options

__all__ = ["chat"]


@click.command()
@URL
@click.argument("prompt", required=False)
@click.option("--system", help="System message before the prompt.")
@click.option("--model", help="Name of the model. Needed if several are served.")
@sampling_options
@prompt_options
def chat(url: str | None, prompt: str | None, system: str | None, **options: Any) -> None:
    """Submit PROMPT as a chat and print the answer as it arrives. Ctrl-C cancels the job.

    A second Ctrl-C leaves the job running.

    Without PROMPT, this is a conversation: each line is a message, and /help lists the commands. Ctrl-C stops
    the answer, and Ctrl-D ends the program.
    """
    given = {name: value for name, value in options.items() if value not in (None, (), {})}
    conversation = Conversation(client_of(url), given, system)
    if prompt is None:
        conversation.run()
    else:
        Answer().show(conversation.client, conversation.body(prompt))
