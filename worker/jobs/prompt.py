"""The prompt template of a chat model: it turns chat messages into token ids.

The API uses it to count tokens, and the worker to run the prompt.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

from worker.jobs import stored
from worker.jobs.control_tokens import MARK, ControlTokens
from worker.jobs.errors import InvalidInput

if TYPE_CHECKING:
    from jinja2 import Environment, Template, nodes
    from jinja2.parser import Parser
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class PromptTemplate:
    """A chat template with its tokenizer. Workers publish it as JSON, so that the API needs no model files.

    `tokenizer_json` is the text of a Hugging Face tokenizer.json, and `chat_template` is the model's Jinja
    template. `special_tokens` maps names that the template may use (such as `bos_token`) to their text.
    `control_tokens` says whether a control token in a message counts as one. Otherwise it is text.
    """

    tokenizer_json: str
    chat_template: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    control_tokens: bool = False

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the prompt text, up to the start of the assistant's answer.

        Raises `InvalidInput` if the template refuses the messages.
        """
        from jinja2.exceptions import TemplateError

        plain = [dict(message) for message in messages]
        try:
            return self._template.render(
                messages=plain, tools=None, documents=None, add_generation_prompt=True, **self.special_tokens
            )
        except (TemplateError, TypeError) as error:  # TypeError: for example a message without content
            raise InvalidInput("messages", f"the model's chat template refuses this: {error}") from error

    def encode(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the token ids of the prompt. Raises `InvalidInput` if the template refuses the messages.

        The template itself writes all special tokens, including BOS, so the tokenizer adds none.
        """
        if not self.control_tokens:
            # Not the roles: templates compare them.
            marked = [{**message, "content": self._control.mark(message["content"])} for message in messages]
            if marked != messages and self._control.interrupted_in(text := self.render(marked)):
                return self._encode_marked(text)
        # A batch of one, because for a batch the tokenizer releases the GIL.
        return self.tokenizer.encode_batch([self.render(messages)], add_special_tokens=False)[0].ids

    def to_json(self) -> str:
        """Return the template as a JSON object, for `from_json`."""
        return stored.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "PromptTemplate":
        """Return the template that `to_json` of some version wrote. Raises `Unsupported`."""
        return stored.from_json(cls, text)

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer, without truncation and padding."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer_json)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def longest_token(self) -> int:
        """The length in bytes of the longest token, special tokens included."""
        return max(len(token.encode()) for token in self.tokenizer.get_vocab())

    def _encode_marked(self, text: str) -> list[int]:
        """Return the token ids of a text with marks. A mark separates two tokens, and gives none itself."""
        encoding = self._marks_tokenizer.encode_batch([text], add_special_tokens=False)[0]
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        return [token for token, (begin, end) in pairs if text[begin:end] != MARK]

    @cached_property
    def _marks_tokenizer(self) -> "Tokenizer":
        """A tokenizer that also knows `MARK`, apart because the id of `MARK` may be that of another token."""
        from tokenizers import AddedToken, Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.add_special_tokens([AddedToken(MARK, normalized=False)])
        return tokenizer

    @cached_property
    def _control(self) -> ControlTokens:
        """The added tokens that the tokenizer calls special, or that the template writes around a message.

        Some models call the start of a turn an ordinary token.
        """
        try:
            around = self.render([{"role": "user", "content": ""}])
        except InvalidInput:
            around = ""
        added = self.tokenizer.get_added_tokens_decoder().values()
        return ControlTokens(
            token.content
            for token in added
            if token.special or (token.content in around and not token.content.isspace())
        )

    @cached_property
    def _template(self) -> "Template":
        return _environment().from_string(self.chat_template)


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
