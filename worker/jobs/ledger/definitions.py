"""The shared Lua definitions, of which each script gets those that it uses.

Redis runs the whole text of a script at each call. So each definition costs time and garbage, used or not.
"""

import re
from collections.abc import Set
from typing import NamedTuple

__all__ = ["Definitions"]

#: A line that is a comment.
_COMMENT_LINE = re.compile(r"^[ \t]*--.*\n", re.MULTILINE)
#: The start of a statement outside of functions. Such a statement begins its line, and so does its `end`.
_START = re.compile(r"^(?=\w)(?!end\b)", re.MULTILINE)
#: The names that a statement defines.
_DEFINED = re.compile(r"local (?:function )?([\w, ]+)")
#: Parts of a statement in which no name is used: comments and strings.
_TEXT = re.compile(r"--[^\n]*|'[^'\n]*'|\[==\[.*?\]==\]", re.DOTALL)


class _Statement(NamedTuple):
    source: str
    defined: Set[str]
    used: Set[str]


class Definitions:
    """Lua statements that define local functions and variables for scripts."""

    def __init__(self, source: str) -> None:
        statements = _START.split(_COMMENT_LINE.sub("", source))
        self._statements = [_Statement(each, _defined(each), _names(each)) for each in statements if each]

    def used_by(self, script: str) -> str:
        """Return the source of the definitions that the script uses, or that these use, in their order.

        A statement that defines nothing is always part of it.
        """
        names, found = _names(script), list[str]()
        for each in [each for each in self._statements if not each.defined]:
            names |= each.used
        for each in reversed(self._statements):
            if not each.defined or each.defined & names:
                names |= each.used
                found.append(each.source)
        return "".join(reversed(found))


def _names(source: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]\w*", _TEXT.sub("", source)))


def _defined(statement: str) -> set[str]:
    found = _DEFINED.match(statement)
    return set(found[1].replace(" ", "").split(",")) if found else set()
