"""The log-probabilities of an answer's tokens, in the form of OpenAI's API."""

from typing_extensions import TypedDict  # before Python 3.12 pydantic does not accept typing.TypedDict

__all__ = ["TokenLogprob", "TopLogprob"]


class TopLogprob(TypedDict):
    """A token that could have been chosen.

    `bytes` are those of the token in UTF-8. A token may be a part of a character, and `token` then contains
    the replacement character U+FFFD. `logprob` is the natural logarithm of the probability that the model
    gave it, before temperature, bias and penalties.
    """

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the answer, and the likeliest tokens at its place. It need not be one of them."""

    top_logprobs: list[TopLogprob]
