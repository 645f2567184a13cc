"""The errors in log lines: their classes and their places, and their texts only if those quote no client.

The text of a foreign exception may contain anything: pydantic quotes the value that it refuses, and a parser
quotes the answer that it cannot parse. So a text is shown only for a class whose texts are known.
"""

import os
import traceback
from collections.abc import Callable, Iterator, Sequence

from worker.jobs.errors import StokerError

__all__ = ["chain", "compact", "describe", "is_private", "multiline", "quotes"]

#: Classes whose texts quote no values, but names, numbers, addresses and paths.
_SAFE = (
    OSError,
    MemoryError,
    ImportError,
    AttributeError,
    NameError,
    ArithmeticError,
    RecursionError,
    SystemExit,
)
#: The same, by name, so that nothing is imported for them.
_SAFE_NAMES = frozenset(
    (
        "botocore.exceptions.BotoCoreError",
        "botocore.exceptions.ClientError",
        "kombu.exceptions.OperationalError",
        "pynvml.NVMLError",
        "redis.exceptions.RedisError",
        "torch.AcceleratorError",
        "torch.OutOfMemoryError",
        "vllm.v1.engine.exceptions.EngineDeadError",
    )
)
#: Classes below those whose texts quote a reply of the server.
_UNSAFE_NAMES = frozenset(("redis.exceptions.InvalidResponse",))
#: The shortest text of an error that is removed from messages. One such as 1 may stand for something else.
_MIN_QUOTE = 4
#: The innermost frames that `compact` shows.
_FRAMES = 12
#: The members of a group of errors that are shown.
_MEMBERS = 3


def is_private(error: BaseException) -> bool:
    """Return whether the text of the error may quote a prompt, an answer, or a secret."""
    if isinstance(error, StokerError):
        return error.quotes_client
    names = {f"{each.__module__}.{each.__qualname__}" for each in type(error).__mro__}
    known = isinstance(error, _SAFE) or names & _SAFE_NAMES
    return not known or bool(names & _UNSAFE_NAMES)


def describe(error: BaseException) -> str:
    """Return the text of the error, or only the name of its class if the text may quote a client."""
    name = type(error).__name__
    return f"{name} (its text is left out)" if is_private(error) else _text(str, error) or name


def quotes(error: BaseException) -> Sequence[str]:
    """Return the texts by which a message may quote the error. Short ones are left out: they hide nothing."""
    return [text for text in (_text(repr, error), _text(str, error)) if len(text) >= _MIN_QUOTE]


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its cause, the cause of that, and so on; of a group also the first members."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each, *waiting = waiting
        if id(each) not in seen:
            yield each
            seen.add(id(each))
            members = each.exceptions[:_MEMBERS] if isinstance(each, BaseExceptionGroup) else ()
            cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
            waiting = [*members, *([cause] if cause else ()), *waiting]


def compact(error: BaseException) -> str:
    """Return the error, its causes and their places in one line, the innermost place first."""
    return "; because of ".join(f"{_named(each)} at {_places(each)}" for each in chain(error))


def multiline(error: BaseException) -> str:
    """Return the traceback in the form of Python's, without lines of source."""
    blocks = []
    for each in reversed(list(chain(error))):
        frames = (f'  File "{at.filename}", line {at.lineno}, in {at.name}\n' for at in _frames(each))
        blocks.append(f"Traceback (most recent call last):\n{''.join(frames)}{_named(each)}")
    return "\n\nThe above exception led to the following one:\n\n".join(blocks)


def _named(error: BaseException) -> str:
    text, name = describe(error), type(error).__name__
    return text if text.startswith(name) else f"{name}: {text}"


def _text(form: Callable[[object], str], error: BaseException) -> str:
    """Return the text of the error, or "" if its class cannot make one."""
    try:
        return form(error)
    except Exception:
        return ""


def _places(error: BaseException) -> str:
    frames = reversed(_frames(error)[-_FRAMES:])
    return " < ".join(f"{os.path.basename(at.filename)}:{at.lineno} {at.name}" for at in frames) or "no place"


def _frames(error: BaseException) -> traceback.StackSummary:
    return traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
