"""Token counts of conversations, with the served model's own prompt template."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from weakref import WeakValueDictionary

from gevent import get_hub
from gevent.lock import BoundedSemaphore

from worker.jobs.cards import ModelCard
from worker.jobs.errors import NotReady
from worker.jobs.ledger.registry import Registry
from worker.jobs.prompt.packed_prompt import pack
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.specs import ChatJob

__all__ = ["TokenCounter"]

#: Characters up to which a conversation counts as short.
SHORT_CHARS = 4096
#: Characters that each message adds to its own, for the text that the template puts around it.
CHARS_PER_MESSAGE = 64
#: Long conversations that this process counts at once. Each can keep a core busy for seconds.
LONG_COUNTS = 2


class TokenCounter:
    """A counter of prompt tokens.

    It parses the prompt template of each served model once a version, because parsing takes a while. Threads
    count long conversations, `LONG_COUNTS` at once and one of each owner, so that all other requests go on.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._parsed: dict[str, tuple[str | None, PromptTemplate]] = {}
        self._threads = BoundedSemaphore(LONG_COUNTS)
        self._turns: WeakValueDictionary[str, BoundedSemaphore] = WeakValueDictionary()

    def lower_bound(self, card: ModelCard, job: ChatJob) -> int:
        """Return a lower bound of the prompt's tokens.

        It is the number of messages or token ids, or the number of bytes divided by those of the longest
        token. This takes no time, however long the conversation is. A truncated prompt has at most the tokens
        of its limit.
        """
        items = len(job.prompt) if isinstance(job.prompt, list) else len(job.messages)
        size = len("".join(_prompt_texts(job)).encode())
        bound = max(items, size // self._template(card).longest_token)
        limit = job.prompt_limit(card.context_length)
        return bound if limit is None else min(bound, limit)

    def count(self, card: ModelCard, job: ChatJob, owner: str = "") -> int:
        """Return the number of the prompt's tokens. Raises as `encode` does."""
        return len(self.encode(card, job, owner))

    def encode(self, card: ModelCard, job: ChatJob, owner: str = "") -> Sequence[int]:
        """Return the token ids of the prompt.

        A long conversation waits for the owner's other long ones. Raises `InvalidInput` if the template
        refuses the conversation, and `NotReady` if the model has no template yet.
        """
        encode = partial(self._template(card).encode_job, job, card.context_length)
        if self.is_short(job):
            return encode()
        with self._turns.setdefault(owner, BoundedSemaphore(1)), self._threads:
            ids: Sequence[int] = get_hub().threadpool.apply(encode)
            return ids

    def pack(self, card: ModelCard, job: ChatJob, ids: Sequence[int]) -> str:
        """Return the token ids of the job's prompt as text that travels with the job."""
        return pack(self._template(card), job, ids)

    def decode(self, card: ModelCard, tokens: Sequence[int], field: str) -> str:
        """Return the text of tokens, with that of control tokens.

        Raises `InvalidInput` for this field if the model lacks one of them, and `NotReady` as `encode` does.
        """
        template = self._template(card)
        template.check_tokens(tokens, field)
        return template.tokenizer.decode(list(tokens), skip_special_tokens=False)

    def token_texts(self, card: ModelCard, tokens: Sequence[int]) -> list[str]:
        """Return how the model's vocabulary writes each of the tokens."""
        tokenizer = self._template(card).tokenizer
        return [tokenizer.id_to_token(token) or "" for token in tokens]

    def vocabulary(self, card: ModelCard) -> int:
        """Return the number of the model's tokens. Raises `NotReady` as `count` does."""
        return int(self._template(card).tokenizer.get_vocab_size())

    def prepare(self, card: ModelCard) -> None:
        """Load the model's template and parse its tokenizer, so that the first count need not."""
        template = self._template(card)  # read here: this socket is gevent's, and works in no other thread
        # Both parse the tokenizer, or write it, which is slow.
        get_hub().threadpool.apply(lambda: (template.longest_token, template.digest))

    @staticmethod
    def is_short(job: ChatJob) -> bool:
        """Return whether counting the conversation takes no longer than a round trip to Redis."""
        others = [message.reasoning or message.reasoning_content or "" for message in job.messages]
        texts = [*_prompt_texts(job), *others, str(job.chat_template_kwargs)]
        return CHARS_PER_MESSAGE * len(job.messages) + sum(map(len, texts)) <= SHORT_CHARS

    def _template(self, card: ModelCard) -> PromptTemplate:
        name = card.parent or card.name  # adapters have the template of their model
        digest, template = self._parsed.get(name, (None, None))
        if template is None or digest != card.digest:
            text = self._registry.prompt(name)
            if text is None:
                raise NotReady(f"the model {name} has not published its prompt template yet")
            template = PromptTemplate.from_json(text)
            self._parsed[name] = card.digest, template
        return template


def _prompt_texts(job: ChatJob) -> Iterator[str]:
    """Yield the client's texts that every template writes. Some leave out the reasoning of earlier turns."""
    if isinstance(job.prompt, str):
        yield job.prompt
    for message in job.messages:
        yield message.content or ""
        yield from (call.function.arguments for call in message.tool_calls)
    yield from (json.dumps(tool.for_template(), ensure_ascii=False) for tool in job.offered_tools)
