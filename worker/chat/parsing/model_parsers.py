"""Chooses the parser of an answer: by the chat, by the settings, and by the model's chat template."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from worker.chat.detokenizer import special_tokens
from worker.chat.parsing.formats import REASONING_FORMATS, TOOL_FORMATS, format_in, response_template
from worker.chat.parsing.guarded import GuardedParser
from worker.chat.parsing.json_calls import JsonCallsParser
from worker.chat.parsing.one_call import OneCall
from worker.chat.parsing.pieces import AnswerParser
from worker.chat.parsing.template_parser import TemplateParser, is_available
from worker.jobs.chat.tool_schema import forces_calls
from worker.jobs.chat.tools import ToolOptions
from worker.jobs.errors import ConfigurationError
from worker.jobs.prompt.chat_template import ChatTemplate
from worker.jobs.prompt.template import PromptTemplate

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from worker.chat.parsing.vllm_parser import VllmParsers

__all__ = ["ModelParsers"]

#: The name of a parser that parses nothing.
NONE = "none"
#: The tokens at the end of a prompt among which a template may open the model's reasoning.
PREFIX_TOKENS = 8


class ModelParsers:
    """The parsers of the answers of one model.

    `tools` and `reasoning` are names of parsers: those of vLLM if `vllm` is true, otherwise those of
    `formats`. None stands for the format that the model's chat template uses, if transformers can read it,
    and "none" for no parser.

    Raises `ConfigurationError` if there is no parser of such a name.
    """

    def __init__(
        self, template: PromptTemplate, tools: str | None, reasoning: str | None, vllm: bool = False
    ) -> None:
        self._template = template
        self._vllm: VllmParsers | None = None
        named = {name for name in (tools, reasoning) if name not in (None, NONE)}
        if vllm and named:
            from worker.chat.parsing import vllm_parser

            self.tools, self.reasoning = _or_none(tools), _or_none(reasoning)
            self._vllm = vllm_parser.VllmParsers(template, self.tools, self.reasoning)
            return
        if named and not is_available():
            raise ConfigurationError(f"the parser {min(named)} needs a newer version of transformers")
        self.tools = _tool_format(tools, template)
        self.reasoning = _reasoning_format(reasoning, template)

    @property
    def tokenizer(self) -> "Tokenizer":
        """The model's tokenizer."""
        return self._template.tokenizer

    @property
    def supports(self) -> frozenset[str]:
        """The names of the options of a chat that the parsers make possible."""
        return frozenset({"parallel_tool_calls", "tools"} if self.tools else {"parallel_tool_calls"})

    def make(self, options: ToolOptions, prompt: Sequence[int]) -> AnswerParser | None:
        """Return a new parser of the answer to this prompt; None if the answer is only text."""
        if not options.is_parsed:
            return None
        if forces_calls(options):
            return JsonCallsParser()
        tools = [tool.for_template() for tool in options.offered_tools] if self.tools else []
        if self._vllm:
            parser: AnswerParser | None = self._vllm.make(tools, prompt)
        elif tools or self.reasoning:
            template = response_template(self.tools if tools else None, self.reasoning)
            parser = TemplateParser(template, self._prefix(prompt), tools)
        else:
            parser = None
        if parser is None:
            return None
        guarded = GuardedParser(parser)
        return guarded if options.parallel_tool_calls else OneCall(guarded)

    def marker_tokens(self, options: ToolOptions) -> frozenset[int]:
        """Return the ids of the special tokens that the parser of an answer looks for (`ChatRequest`)."""
        if not options.is_parsed or forces_calls(options):
            return frozenset()
        if not (self.reasoning or (self.tools and options.offered_tools)):
            return frozenset()
        return self._marker_tokens

    @cached_property
    def _marker_tokens(self) -> frozenset[int]:
        special = special_tokens(self._template.tokenizer)
        if self._vllm:  # any of them may be one, but not those that begin and end a text
            ends = {*self._template.special_tokens.values()}
            return frozenset(id_ for id_, text in special.items() if text not in ends)
        texts = [*_texts(response_template(self.tools, self.reasoning))]
        return frozenset(
            id_
            for id_, text in special.items()
            if any(text in each or re.escape(text) in each for each in texts)
        )

    def _prefix(self, prompt: Sequence[int]) -> str:
        """Return the text at the prompt's end that opens the reasoning, if there is such a text."""
        if self.reasoning is None:
            return ""
        end = self._template.tokenizer.decode(list(prompt[-PREFIX_TOKENS:]), skip_special_tokens=False)
        field = REASONING_FORMATS[self.reasoning]
        opening = field.get("open_pattern") or re.escape(field["open"])
        found = re.search(f"(?:{opening})$", end)
        return found[0] if found else ""


def _or_none(name: str | None) -> str | None:
    return None if name == NONE else name


def _tool_format(name: str | None, template: PromptTemplate) -> str | None:
    """Return the name of the format of calls. A template that reads no tools gets them in Hermes's form."""
    source = template.tool_template or template.chat_template
    default = format_in(source, TOOL_FORMATS)
    if default is None and not ChatTemplate(source).uses_tools:
        default = "hermes"
    return _chosen("tool", name, default, TOOL_FORMATS)


def _reasoning_format(name: str | None, template: PromptTemplate) -> str | None:
    """Return the name of the format of reasoning."""
    default = format_in(template.chat_template, REASONING_FORMATS)
    return _chosen("reasoning", name, default, REASONING_FORMATS)


def _chosen(what: str, name: str | None, default: str | None, formats: Mapping[str, Any]) -> str | None:
    if name is None:
        return default if default and is_available() else None
    if name != NONE and name not in formats:
        known = ", ".join(sorted(formats))
        raise ConfigurationError(f"there is no {what} parser {name} here; the parsers are {known} and {NONE}")
    return _or_none(name)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
