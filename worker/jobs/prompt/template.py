"""The prompt template of a chat model: it turns chat messages into token ids.

The API uses it to count tokens, and the worker to run the prompt.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from worker.jobs import stored
from worker.jobs.chat.prompt_options import PromptOptions
from worker.jobs.errors import InvalidInput
from worker.jobs.prompt.chat_template import ChatTemplate
from worker.jobs.prompt.control_tokens import MARK, ControlTokens
from worker.jobs.prompt.conversation import Conversation
from worker.jobs.specs import ChatJob

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["PROMPT_FEATURES", "PromptTemplate"]

#: The names of what this version renders (`ChatJob.asked`). Tools are not among them, because a worker must
#: also read the calls in the model's answer.
PROMPT_FEATURES = frozenset(
    {
        "add_generation_prompt",
        "chat_template_kwargs",
        "continue_final_message",
        "messages.reasoning",
        "messages.reasoning_content",
        "messages.tool_call_id",
        "messages.tool_calls",
        "prompt",
        "truncate_prompt_tokens",
    }
)

_PLAIN = PromptOptions()
#: Conversations for which a template writes its control tokens: around a message, tools, a call and a result.
#: The id has the form that Mistral's templates ask for.
_USER = {"role": "user", "content": ""}
_PARAMETERS = {
    "type": "object",
    "properties": {"a": {"type": "string", "description": "a"}},
    "required": ["a"],
}
_TOOL = {"type": "function", "function": {"name": "a", "description": "a", "parameters": _PARAMETERS}}
_CALL = {"id": "a00000000", "type": "function", "function": {"name": "a", "arguments": {"a": "a"}}}
_RESULT = {"role": "tool", "content": "", "tool_call_id": "a00000000"}
_PLAIN_SAMPLE = Conversation([_USER])
_TOOL_SAMPLES = (
    Conversation([_USER], [_TOOL]),
    Conversation([_USER, {"role": "assistant", "content": "", "tool_calls": [_CALL]}, _RESULT], [_TOOL]),
)


@dataclass(frozen=True)
class PromptTemplate:
    """A chat template with its tokenizer. Workers publish it as JSON, so that the API needs no model files.

    `tokenizer_json` is the text of a Hugging Face tokenizer.json, and `chat_template` is the model's Jinja
    template. `special_tokens` maps names that the template may use (such as `bos_token`) to their text.
    `control_tokens` says whether a control token in a message counts as one. Otherwise it is text.
    `tool_template` is the template for chats with tools; empty if the model has one template for all chats.
    """

    tokenizer_json: str
    chat_template: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    control_tokens: bool = False
    tool_template: str = ""

    def encode_job(self, job: ChatJob, context_length: int | None) -> list[int]:
        """Return the token ids of the job's prompt, for a model with this context.

        Raises `InvalidInput` if the template refuses the conversation, or if the model lacks a token of a raw
        prompt.
        """
        if job.prompt is None:
            ids = self.encode([message.for_template() for message in job.messages], job)
        else:
            ids = self._encode_raw(job.prompt, job.add_special_tokens is not False)
        limit = job.prompt_limit(context_length)
        return ids if limit is None else ids[-limit:]

    def render(self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = _PLAIN) -> str:
        """Return the prompt text. Without other `options`, it ends with the start of the assistant's answer.

        `messages` have the form that transformers' templates read: the arguments of calls are objects. Raises
        `InvalidInput` if the template refuses the messages.
        """
        return self._render(Conversation.of(messages, options))

    def encode(self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = _PLAIN) -> list[int]:
        """Return the token ids of the prompt that `render` returns.

        The template itself writes all special tokens, including BOS, so the tokenizer adds none.
        """
        conversation = Conversation.of(messages, options)
        text = self._render(conversation)
        if not self.control_tokens:
            tools = self._tool_control if conversation.has_tools else self._control
            marked = conversation.changed(self._control.mark, tools.mark)
            if marked != conversation:
                marked_text = self._render(marked)
                # If more than the marks differs, the template has treated a marked text in another way, and
                # may have hidden a mark.
                if tools.interrupted_in(marked_text) or _unmarked(marked_text) != _unmarked(text):
                    return self._encode_marked(marked_text)
        # A batch of one, because for a batch the tokenizer releases the GIL.
        return self.tokenizer.encode_batch([text], add_special_tokens=False)[0].ids

    def _encode_raw(self, prompt: str | list[int], add_special_tokens: bool) -> list[int]:
        """Return the token ids of a prompt that no template makes."""
        if isinstance(prompt, list):
            self.check_tokens(prompt, "prompt")
            return prompt
        if ids := self.tokenizer.encode_batch([prompt], add_special_tokens=add_special_tokens)[0].ids:
            return ids
        raise InvalidInput("prompt", "has no tokens")

    def check_tokens(self, ids: Sequence[int], field: str) -> None:
        """Raise `InvalidInput` for this field unless the model has all these tokens."""
        size = self.tokenizer.get_vocab_size()
        if unknown := [token for token in ids if token >= size]:
            raise InvalidInput(field, f"the model has no token {unknown[0]}, only 0 to {size - 1}")

    @cached_property
    def digest(self) -> str:
        """The name of this version of the template and of its tokenizer."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

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

    def _render(self, conversation: Conversation) -> str:
        template = self._tool_template if conversation.tools and self.tool_template else self._template
        return template.render(conversation)

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self.chat_template, self.special_tokens)

    @cached_property
    def _tool_template(self) -> ChatTemplate:
        return ChatTemplate(self.tool_template, self.special_tokens)

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
        return self._control_of(_PLAIN_SAMPLE)

    @cached_property
    def _tool_control(self) -> ControlTokens:
        """The control tokens, and the added tokens that the template writes around tools and results."""
        return self._control_of(_PLAIN_SAMPLE, *_TOOL_SAMPLES)

    def _control_of(self, *conversations: Conversation) -> ControlTokens:
        around = "".join(map(self._rendered_or_empty, conversations))
        added = self.tokenizer.get_added_tokens_decoder().values()
        return ControlTokens(
            token.content
            for token in added
            if token.special or (token.content in around and not token.content.isspace())
        )

    def _rendered_or_empty(self, conversation: Conversation) -> str:
        try:
            return self._render(conversation)
        except InvalidInput:
            return ""


def _unmarked(text: str) -> str:
    return text.replace(MARK, "")
