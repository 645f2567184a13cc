"""Chats as the API sees them."""

from collections.abc import Callable, Mapping
from typing import Any

from webapi.auth import access
from webapi.documents.chat import ChatResultDocument
from webapi.http.result_file import check_succeeded
from webapi.services.backend import Backend
from webapi.services.system_threads import call_in_thread
from worker.jobs.cards import ModelCard
from worker.jobs.chat.grammars import check_grammar
from worker.jobs.chat.sampling import unsupported
from worker.jobs.chat.structured_outputs import StructuredOutputs
from worker.jobs.chat.tool_schema import forced_calls
from worker.jobs.errors import InvalidInput, InvalidStructure, PromptTooLong
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob

__all__ = ["admit", "check_bound", "prompt_tokens", "result"]


def admit(backend: Backend, card: ModelCard, spec: ChatJob, check_room: Callable[[], None]) -> str:
    """Return the token ids of the prompt, or raise an error if the model cannot take the chat (`Admit`).

    It is `InvalidInput` if the model's worker does not support what the chat asks for, if the model lacks a
    token of `logit_bias`, or if the grammar of a structured answer cannot be used. It is `PromptTooLong` if
    the conversation does not fit into the model's context.
    """
    for name in unsupported(spec, card.supports):
        raise InvalidInput(name, f"{name} is not supported by the engine of {card.name}")
    if spec.logit_bias:
        _check_bias(spec.logit_bias, backend.token_counter.vocabulary(card))
    structure = forced_calls(spec) or spec.structured_outputs
    if not backend.token_counter.is_short(spec) or structure:
        check_room()
    if structure:
        _check_structure(spec, structure)
    check_bound(backend, card, spec)
    ids = backend.token_counter.encode(card, spec, access.owner())
    _check_fits(card, spec, len(ids))
    return backend.token_counter.pack(card, spec, ids)


def check_bound(backend: Backend, card: ModelCard, spec: ChatJob) -> None:
    """Raise `PromptTooLong` if the prompt is far too long for the model's context.

    Such a prompt is not counted, for it would delay the counts of others.
    """
    _check_fits(card, spec, backend.token_counter.lower_bound(card, spec), "at least ")


def _check_fits(card: ModelCard, spec: ChatJob, tokens: int, about: str = "") -> None:
    context = card.context_length
    if context is not None and tokens >= context:
        # LangChain and LiteLLM recognise this error by the words "prompt is too long".
        too_long = f"the prompt is too long: the model's context holds {context} tokens, and the prompt has"
        raise PromptTooLong("messages" if spec.prompt is None else "prompt", f"{too_long} {about}{tokens}")


def prompt_tokens(backend: Backend, card: ModelCard, spec: ChatJob) -> int:
    """Return the number of tokens of the caller's prompt. Raises as `TokenCounter.count` does."""
    return backend.token_counter.count(card, spec, access.owner())


def _check_bias(bias: Mapping[str, float], vocabulary: int) -> None:
    for token in bias:
        if int(token) >= vocabulary:
            raise InvalidInput("logit_bias", f"the model has no token {token}, only 0 to {vocabulary - 1}")


def _check_structure(spec: ChatJob, asked: StructuredOutputs) -> None:
    forced = asked is not spec.structured_outputs
    for name in ("min_tokens", "ignore_eos", "bad_words"):  # other structured answers refuse them already
        if forced and getattr(spec, name):
            raise InvalidInput(name, "may not be given if the answer has to call tools")
    try:
        call_in_thread(check_grammar, asked)
    except InvalidStructure as error:
        field = "response_format" if spec.response_format else "structured_outputs"
        raise InvalidInput("tools" if forced else field, f"cannot be used: {error}") from None


def result(record: Record) -> dict[str, Any]:
    """Return the answer of a chat. Raises `JobConflict` if the job has no result (`ApiKind.result`)."""
    check_succeeded(record)
    return ChatResultDocument.from_record(record).model_dump()
