"""The fields of chat requests that are not supported, and their values that are accepted nevertheless."""

import json
from collections.abc import Mapping
from typing import Any

from worker.jobs.errors import InvalidInput

__all__ = ["UNSUPPORTED", "without_neutral"]

#: Fields of OpenAI, vLLM and others that would change the answer and are not supported. Each has the values
#: that are accepted because they change nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    # Several answers, and details of an answer.
    "best_of": (1,),
    "use_beam_search": (False,),
    "prompt_logprobs": (0,),
    "logprob_token_ids": ([],),
    "return_tokens_as_token_ids": (False,),
    "echo": (False,),
    # The choice of tokens.
    "typical_p": (1,),
    "allowed_token_ids": (),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "vllm_xargs": ({},),
    "custom_logit_processor": (),
    "watermarking": (False,),
    # The end of an answer, and its text.
    "skip_special_tokens": (True,),
    "thinking_token_budget": (),
    "repetition_detection": (),
    "stop_regex": ([],),
    "no_stop_trim": (False,),
    # The prompt.
    "truncation_side": ("left",),
    "chat_template": (),
    "documents": ([],),
    # The form of an answer.
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
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}


def without_neutral(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields without those that are not supported, if their values ask for nothing.

    Null asks for nothing. Raises `InvalidInput` for the first field that asks for an unsupported feature.
    """
    for name, neutral in UNSUPPORTED.items():
        if fields.get(name) is not None and fields[name] not in neutral:
            but = f", except as {' or '.join(map(json.dumps, neutral))}" if neutral else ""
            raise InvalidInput(name, f"{name} is not supported here{but}")
    return {name: value for name, value in fields.items() if name not in UNSUPPORTED}
