"""The fields of a chat request before their validation: texts as numbers, and fields that are refused."""

import json
import re
from typing import Any, get_args

from pydantic.fields import FieldInfo

from webapi.openai.schema import ChatCompletionRequest
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import ChatJob

__all__ = ["NUMBERS", "read_fields"]

#: Fields of OpenAI, vLLM and others that would change the answer and are not supported. Each has the values
#: that are accepted because they change nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    # Several answers, and details of an answer.
    "n": (1,),
    "best_of": (1,),
    "use_beam_search": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (0,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "echo": (False,),
    # The choice of tokens.
    "top_k": (0, -1),
    "min_p": (0,),
    "typical_p": (1,),
    "logit_bias": ({},),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "vllm_xargs": ({},),
    # The end of an answer, and its text.
    "stop_token_ids": ([],),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "thinking_token_budget": (),
    # The prompt.
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "add_special_tokens": (False,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "truncate_prompt_tokens": (),
    # The form of an answer.
    "response_format": ({"type": "text"},),
    "structured_outputs": ({},),
    "structural_tag": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": ([],),
    "guided_grammar": (),
    "json_schema": (),
    "regex": (),
    "grammar": (),
    "ebnf": (),
    # Tools and media.
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}


def _is_number(field: FieldInfo) -> bool:
    kinds = {field.annotation, *get_args(field.annotation)}
    return bool({int, float} & (kinds | {inner for kind in kinds for inner in get_args(kind)}))


#: The supported fields whose values are numbers.
NUMBERS = frozenset(
    name
    for model in (ChatJob, ChatCompletionRequest)
    for name, field in model.model_fields.items()
    if _is_number(field)
)
#: The refused fields with numbers.
_OTHER_NUMBERS = {
    name for name, neutral in UNSUPPORTED.items() if {type(value) for value in neutral} == {int}
}


def read_fields(body: Any) -> dict[str, Any]:
    """Return the fields of a request's body. Null means the same as no value, and the text "0.7" the number.

    Raises `InvalidInput` for the first field that asks for an unsupported feature.
    """
    if not isinstance(body, dict):
        raise InvalidInput("body", "must be a JSON object")
    numbers = NUMBERS | _OTHER_NUMBERS
    given = {
        name: _number(value) if name in numbers else value
        for name, value in body.items()
        if value is not None
    }
    for name, neutral in UNSUPPORTED.items():
        if name in given and given[name] not in neutral:
            but = f", except as {' or '.join(map(json.dumps, neutral))}" if neutral else ""
            raise InvalidInput(name, f"{name} is not supported here{but}")
    return given


def _number(value: Any) -> Any:
    """Return the number that a text stands for. Other values stay as they are."""
    if not isinstance(value, str) or not re.fullmatch(
        r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value, re.ASCII
    ):
        return value
    if re.fullmatch(r"\s*[+-]?\d{1,100}\s*", value, re.ASCII):
        return int(value)
    number = float(value)
    return int(number) if number.is_integer() else number
