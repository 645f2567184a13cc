"""The routes `/tokenize` and `/detokenize` of vLLM's server."""

from typing import Annotated

from flask import Blueprint
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field

from webapi.auth import access
from webapi.description.route import AnswerSpec, Body, describe
from webapi.http.bodies import json_body
from webapi.kinds.chat import check_bound
from webapi.openai.request_fields import read_fields
from webapi.openai.routes import named_model
from webapi.services.backend import current_backend
from worker.jobs.chat.nullable import Nullable
from worker.jobs.chat.prompt_source import MAX_TOKEN_ID, PromptSource
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import ChatJob, ModelName, validate

__all__ = ["routes"]

routes = Blueprint("tokenizer", __name__)


class TokenizeBody(PromptSource):
    """A prompt, or the messages from which the model's chat template makes it. Other fields are ignored."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"anyOf": [{"required": ["messages"]}, {"required": ["prompt"]}]}
    )

    model: ModelName | None = None
    return_token_strs: bool = False
    """With true, the answer also has the texts of the tokens, as the model's vocabulary writes them."""


class TokensDocument(BaseModel):
    """The tokens of a prompt, and how many of them the model's context holds."""

    model_config = ConfigDict(title="Tokens")

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeBody(Nullable):
    """The ids of tokens. Other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    model: ModelName | None = None
    tokens: list[Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]]


class TextDocument(BaseModel):
    """The text of tokens, with that of control tokens."""

    model_config = ConfigDict(title="TokensText")

    prompt: str


#: Error statuses besides those of every route.
ERRORS = (400, 404, 408, 413, 415)


@routes.post("/tokenize")
@describe(
    "submit",
    {200: AnswerSpec("The tokens.", TokensDocument)},
    ERRORS,
    Body(TokenizeBody),
    submits=ChatJob.kind,
)
def tokenize() -> ResponseReturnValue:
    """Show the tokens of a prompt, as those of a chat or of a text completion are made."""
    body = validate(TokenizeBody, read_fields(json_body()), "ignore")
    source = body.model_dump(exclude_defaults=True, exclude={"return_token_strs"})
    backend, job = current_backend(), validate(ChatJob, source)
    card = named_model(backend, job)
    check_bound(backend, card, job)
    tokens = backend.token_counter.encode(card, job, access.owner())
    texts = backend.token_counter.token_texts(card, tokens) if body.return_token_strs else None
    return TokensDocument(
        count=len(tokens), max_model_len=card.context_length, tokens=list(tokens), token_strs=texts
    ).model_dump()


@routes.post("/detokenize")
@describe(
    "submit",
    {200: AnswerSpec("The text.", TextDocument)},
    ERRORS,
    Body(DetokenizeBody),
    submits=ChatJob.kind,
)
def detokenize() -> ResponseReturnValue:
    """Show the text of tokens."""
    body, backend = validate(DetokenizeBody, json_body(), "ignore"), current_backend()
    card = named_model(
        backend, ChatJob(model=body.model, prompt="any")
    )  # it stands for all jobs of the model
    if card.context_length is not None and len(body.tokens) > card.context_length:
        raise InvalidInput("tokens", f"may be at most {card.context_length}, as many as the context holds")
    return TextDocument(prompt=backend.token_counter.decode(card, body.tokens, "tokens")).model_dump()
