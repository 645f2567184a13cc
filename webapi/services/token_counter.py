"""TokenCounter: counts a conversation's tokens with the served model's own template."""

from collections.abc import Sequence

from gevent import get_hub

from worker.jobs.errors import NotReady
from worker.jobs.ledger.registry import Registry
from worker.jobs.prompt import PromptTemplate
from worker.jobs.records import ModelCard
from worker.jobs.specs import Message

__all__ = ["TokenCounter"]

#: Characters of a conversation that is counted at once, and what a message costs beside its own.
SHORT, MESSAGE = 4096, 64


class TokenCounter:
    """The prompt templates of the served models; parsed once a version, for parsing takes a while."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._parsed: dict[str, tuple[str | None, PromptTemplate]] = {}

    def lower_bound(self, card: ModelCard, messages: Sequence[Message]) -> int:
        """Tokens that the conversation has at least, by its bytes: known at once, however long it is."""
        size = sum(len(message.content.encode()) for message in messages)
        return size // self._template(card).longest_token

    def count(self, card: ModelCard, messages: Sequence[Message]) -> int:
        """Tokens of the conversation. Raises `InvalidInput` when the template refuses it."""
        template, plain = self._template(card), [message.model_dump() for message in messages]
        if self.is_short(messages):
            return len(template.encode(plain))
        # Megabytes take seconds: in a thread, so that all other requests and streams go on meanwhile.
        return len(get_hub().threadpool.apply(template.encode, (plain,)))

    def prepare(self, card: ModelCard) -> None:
        """Have all at hand that counting needs."""
        template = self._template(card)  # by a socket of this thread: gevent's work in no other
        get_hub().threadpool.apply(lambda: template.longest_token)  # parses the tokenizer: that takes a while

    @staticmethod
    def is_short(messages: Sequence[Message]) -> bool:
        """Whether counting takes no longer than a look at Redis."""
        return sum(MESSAGE + len(message.content) for message in messages) <= SHORT

    def _template(self, card: ModelCard) -> PromptTemplate:
        digest, template = self._parsed.get(card.name, (None, None))
        if template is None or digest != card.digest:
            text = self._registry.prompt(card.name)
            if text is None:
                raise NotReady(f"the model {card.name} has not published its prompt template yet")
            template = PromptTemplate.from_json(text)
            self._parsed[card.name] = card.digest, template
        return template
