"""The chat template of a model: Jinja code of its authors, which runs in a sandbox."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from worker.jobs.errors import InvalidInput
from worker.jobs.prompt.conversation import Conversation
from worker.jobs.prompt.tool_texts import introduced, written_out

if TYPE_CHECKING:
    from jinja2 import Environment, Template, nodes
    from jinja2.parser import Parser

__all__ = ["ChatTemplate"]

#: What transformers writes behind a message to find its end in the prompt.
END_MARK = "CONTINUE_FINAL_MESSAGE_TAG "
#: What a template raises for a message without content, or a variable of another type than it expects.
_ERRORS = TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template. `special_tokens` maps names that it may use (such as `bos_token`) to their text."""

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def render(self, conversation: Conversation) -> str:
        """Return the prompt text. Raises `InvalidInput` if the template refuses the conversation.

        If the template does not use tools, they are described in the system message, and calls and results
        become a part of the messages.
        """
        self._check(conversation.variables or {})
        if conversation.continues:
            return self._open(conversation)
        messages = conversation.messages
        if conversation.has_tools and not self.uses_tools:
            messages = written_out(messages)
            if conversation.tools:
                messages = introduced(messages, conversation.tools, self._takes_system)
        return self._render(messages, conversation)

    @cached_property
    def uses_tools(self) -> bool:
        """Whether the template reads the variable `tools`."""
        from jinja2.meta import find_undeclared_variables

        return "tools" in find_undeclared_variables(_environment().parse(self.source))

    def _open(self, conversation: Conversation) -> str:
        """Return the prompt text up to the end of the last message's content, as transformers does."""
        *earlier, last = conversation.messages
        content = last.get("content")
        if not isinstance(content, str):
            raise InvalidInput("continue_final_message", "the last message has no content to continue")
        marked = [*earlier, {**last, "content": content + END_MARK}]
        text = self.render(replace(conversation, messages=marked, continues=False))
        end = text.rfind(END_MARK.strip())
        if end < 0 or content.strip() not in text:
            raise InvalidInput(
                "continue_final_message", "the model's chat template does not write the last message as it is"
            )
        # A template that removes the space of the mark has also removed the space before it.
        return text[:end] if text.startswith(END_MARK, end) else text[:end].rstrip()

    def _render(self, messages: Sequence[Mapping[str, Any]], conversation: Conversation) -> str:
        from jinja2.exceptions import TemplateError

        own = {
            "messages": [dict(message) for message in messages],
            "tools": conversation.tools,
            "documents": None,
            "add_generation_prompt": conversation.opens_answer,
        }
        try:
            return self._template.render(**(conversation.variables or {}), **own, **self.special_tokens)
        except (TemplateError, *_ERRORS) as error:
            raise InvalidInput("messages", f"the model's chat template refuses this: {error}") from error

    def _check(self, variables: Mapping[str, Any]) -> None:
        """Raise `InvalidInput` if one of the variables would replace a variable that is set here."""
        own = {"self", "messages", "tools", "documents", "add_generation_prompt"}
        for name in variables:
            if name in own or name in self.special_tokens or name in self._template.environment.globals:
                raise InvalidInput("chat_template_kwargs", f"{name} cannot be set here")

    @cached_property
    def _takes_system(self) -> bool:
        """Whether the template takes a message of the role `system`."""
        messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}]
        try:
            self._render(messages, Conversation(messages))
        except InvalidInput:
            return False
        return True

    @cached_property
    def _template(self) -> "Template":
        return _environment().from_string(self.source)


def _environment() -> "Environment":
    """Return a sandboxed Jinja environment like that of transformers (utils/chat_template_utils.py)."""
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Renders the content of `{% generation %}`, which marks the assistant's words for training."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: "Parser") -> "list[nodes.Node]":
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def strftime_now(pattern: str) -> str:
        return datetime.now().strftime(pattern)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    environment.filters["tojson"] = _tojson
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return plain JSON. Jinja's own filter would escape it for HTML, and no model was trained on that."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
