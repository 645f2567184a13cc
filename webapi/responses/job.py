"""The job of a response: a chat job that also stores the options of the request."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from webapi.responses.input_items import to_messages
from webapi.responses.options import FunctionTool, NamedFunctionChoice, ResponseOptions, TextFormat
from webapi.responses.request import ResponseRequest
from worker.jobs.chat.messages import Message
from worker.jobs.chat.sampling import TO_CONTEXT_END
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob, read_spec, validate
from worker.jobs.stored import ADAPTER_SCHEMA, check_schema

__all__ = ["ResponseJob", "make_job", "read_job"]

#: The fields of a chat job that a request for a response may have, too.
EXTRAS = (
    "stop", "seed", "min_tokens", "ignore_eos", "include_stop_str_in_output", "stop_token_ids", "top_k",
    "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "bad_words",
    "structured_outputs", "chat_template_kwargs", "include_reasoning", "truncate_prompt_tokens",
    "priority", "webhook_url", "timeout_s", "max_queue_s",
)  # fmt: skip


class ResponseJob(ChatJob):
    """A chat job that makes a response. Workers read a `ChatJob`, which ignores the options in `response`."""

    response: ResponseOptions = Field(repr=False)

    @property
    def conversation(self) -> Sequence[Message]:
        """The messages without the instructions."""
        return self.messages[0 if self.response.instructions is None else 1 :]


def make_job(
    request: ResponseRequest, fields: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]] = ()
) -> ResponseJob:
    """Return the job of a request. `fields` are all fields of its body.

    `earlier` are the messages of the conversation that the request continues. Raises `InvalidInput`.
    """
    instructions = request.instructions
    first = [] if instructions is None else [{"role": "system", "content": instructions}]
    native: dict[str, Any] = {name: fields[name] for name in EXTRAS if name in fields}
    native |= {
        "model": request.model,
        "messages": [*first, *earlier, *to_messages(request.input)],
        "max_tokens": request.max_output_tokens or TO_CONTEXT_END,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "logprobs": request.logprobs,
        "top_logprobs": request.top_logprobs,
        "response_format": _response_format(request.text.format),
        "reasoning_effort": request.reasoning.effort,
        "tools": [_tool(tool) for tool in request.tools],
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
    }
    given = {name: getattr(request, name) for name in ResponseOptions.model_fields}
    options = ResponseOptions.model_construct(**given)
    return validate(ResponseJob, native | {"response": options}, "ignore")


def read_job(record: Record) -> ResponseJob | None:
    """Return the job of a response that can be retrieved; None if the record is that of another job.

    Raises `Unsupported` if this version cannot read it.
    """
    if '"response":' not in record.spec_json or "response" not in json.loads(record.spec_json):
        return None
    check_schema(record.schema, ADAPTER_SCHEMA)
    job = read_spec(ResponseJob, record.spec_json)
    return job if job.response.store else None


def _response_format(form: TextFormat) -> dict[str, Any] | None:
    if form.type != "json_schema":
        return {"type": form.type}
    return {
        "type": form.type,
        "json_schema": {"name": form.name, "schema": form.json_schema, "strict": form.strict},
    }


def _tool(tool: FunctionTool) -> dict[str, Any]:
    return {"type": tool.type, "function": tool.model_dump(exclude={"type"})}


def _tool_choice(choice: str | NamedFunctionChoice) -> Any:
    return choice if isinstance(choice, str) else {"type": choice.type, "function": {"name": choice.name}}
