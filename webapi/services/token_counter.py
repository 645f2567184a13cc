"""Token counts of conversations, with the served model's own prompt template."""

from collections.abc import Sequence

from gevent import get_hub

from worker.jobs.errors import NotReady
from worker.jobs.ledger.registry import Registry
from worker.jobs.prompt import PromptTemplate
from worker.jobs.records import ModelCard
from worker.jobs.specs import Message

__all__ = ["TokenCounter"]

#: Characters up to which a conversation counts as short.
SHORT_CHARS = 4096
#: Characters that each message adds to its own, for the text that the template puts around it.
CHARS_PER_MESSAGE = 64


class TokenCounter:
    """A counter of prompt tokens.

    It parses the prompt template of each served model once a version, because parsing takes a while.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._parsed: dict[str, tuple[str | None, PromptTemplate]] = {}

    def lower_bound(self, card: ModelCard, messages: Sequence[Message]) -> int:
        """Return a lower bound of the conversation's tokens: its bytes divided by those of the longest token.

        This takes no time, however long the conversation is.
        """
        size = sum(len(message.content.encode()) for message in messages)
        return size // self._template(card).longest_token

    def count(self, card: ModelCard, messages: Sequence[Message]) -> int:
        """Return the number of the conversation's tokens.

        Raises `InvalidInput` if the template refuses it, and `NotReady` if the model has no template yet.
        """
        template, plain = self._template(card), [message.model_dump() for message in messages]
        if self.is_short(messages):
            return len(template.encode(plain))
        # Megabytes take seconds. A thread counts them, so that all other requests and streams go on.
        return len(get_hub().threadpool.apply(template.encode, (plain,)))

    def prepare(self, card: ModelCard) -> None:
        """Load the model's template and parse its tokenizer, so that the first count need not."""
        template = self._template(card)  # read here: this socket is gevent's, and works in no other thread
        get_hub().threadpool.apply(lambda: template.longest_token)  # parses the tokenizer, which is slow

    @staticmethod
    def is_short(messages: Sequence[Message]) -> bool:
        """Return whether counting the conversation takes no longer than a round trip to Redis."""
        return sum(CHARS_PER_MESSAGE + len(message.content) for message in messages) <= SHORT_CHARS

    def _template(self, card: ModelCard) -> PromptTemplate:
        digest, template = self._parsed.get(card.name, (None, None))
        if template is None or digest != card.digest:
            text = self._registry.prompt(card.name)
            if text is None:
                raise NotReady(f"the model {card.name} has not published its prompt template yet")
            template = PromptTemplate.from_json(text)
            self._parsed[card.name] = card.digest, template
        return template
