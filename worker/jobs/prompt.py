"""From chat messages to token ids: one path for the API, which counts, and the worker, which runs them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

from worker.jobs.errors import InvalidInput

if TYPE_CHECKING:
    from jinja2 import Environment, Template, nodes
    from jinja2.parser import Parser
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class PromptTemplate:
    """What turns a conversation into a prompt, with no model files: it travels as JSON in the model card.

    `tokenizer_json` is the text of a Hugging Face tokenizer.json, `chat_template` the model's Jinja
    template, `special_tokens` the names it may use (`bos_token` and so on).
    """

    tokenizer_json: str
    chat_template: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt, up to where the assistant begins to speak; InvalidInput if the template refuses."""
        from jinja2.exceptions import TemplateError

        plain = [dict(message) for message in messages]
        try:
            return self._template.render(
                messages=plain, tools=None, documents=None, add_generation_prompt=True, **self.special_tokens
            )
        except (TemplateError, TypeError) as error:  # TypeError: a message without content, say
            raise InvalidInput("messages", f"the model's chat template refuses this: {error}") from error

    def encode(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of the prompt. The template writes the special tokens (BOS too), so none are added."""
        # As a batch of one: for that the tokenizer lets other threads run meanwhile.
        return self.tokenizer.encode_batch([self.render(messages)], add_special_tokens=False)[0].ids

    def to_json(self) -> str:
        """The template as a JSON object, for `from_json`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "PromptTemplate":
        """The template that `to_json` wrote."""
        return cls(**json.loads(text))

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer itself, which neither cuts off nor pads."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer_json)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def longest_token(self) -> int:
        """Bytes that a token stands for at most, special ones too."""
        return max(len(token.encode()) for token in self.tokenizer.get_vocab())

    @cached_property
    def _template(self) -> "Template":
        return _environment().from_string(self.chat_template)


def _environment() -> "Environment":
    """Jinja as transformers sets it up for chat templates (utils/chat_template_utils.py): sandboxed."""
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Lets `{% generation %}`, which marks the assistant's words for training, pass through."""

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
    """Plain JSON: Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
