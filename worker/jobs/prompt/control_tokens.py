"""The control tokens of a model mark the turns of a conversation. No message may contain one."""

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable
from itertools import accumulate, groupby
from os.path import commonprefix

__all__ = ["MARK", "ControlTokens", "trie_pattern"]

#: A character that separates the two parts of a control token in a message. Unicode reserves it for a
#: program's own use, so it has no meaning in a text.
MARK = "\ufdd0"


class ControlTokens:
    """The texts of control tokens, such as `<|im_end|>`.

    Texts of one character are ignored, because they have no two parts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        tokens = {text for text in texts if len(text) > 1}
        self._tokens = re.compile(trie_pattern(tokens) if tokens else "(?!)")
        self._parts = range(1, max(map(len, tokens), default=1))
        self._heads = {text[:size] for text in tokens for size in self._parts if size < len(text)}
        self._tails = {text[size:] for text in tokens for size in self._parts if size < len(text)}

    def mark(self, content: str) -> str:
        """Return `content` with a `MARK` inside of each control token.

        A mark also stands beside an end of the content that is a part of a control token, because the
        template or another message may add the other part. White space at the ends stays outside, because
        templates often remove it.
        """
        while self._tokens.search(content):  # again for tokens that overlap
            content = self._tokens.sub(lambda token: token[0][0] + MARK + token[0][1:], content)
        core = content.strip()
        first, last = content.find(core), content.find(core) + len(core)
        parts = self._parts[: len(core)]
        if any(core[-size:] in self._heads for size in parts):
            content = content[:last] + MARK + content[last:]
        if any(core[:size] in self._tails for size in parts):
            content = content[:first] + MARK + content[first:]
        return content

    def interrupted_in(self, text: str) -> bool:
        """Return whether a mark in `text` stands inside of a control token."""
        # Clients may send many marks, so the loop is over the tokens. `mark` has put a mark into each token
        # of a message: the loop passes only tokens of the template before it finds one.
        plain = text.replace(MARK, "")
        cuts = list(accumulate(map(len, text.split(MARK))))  # positions of the marks in `plain`, and its end
        start = 0
        while token := self._tokens.search(plain, start):
            if cuts[bisect_right(cuts, token.start())] < token.end():
                return True
            start = token.start() + 1  # not the end, for tokens that overlap
        return False


def trie_pattern(texts: Collection[str]) -> str:
    """Return a regular expression that matches the longest of `texts`, of which there is at least one.

    The alternatives at one place begin with different characters. A search therefore tries one of them. With
    `a|b|c` it would try all texts, which takes seconds for a long message if thousands begin alike.
    """
    prefix = commonprefix(list(texts))  # noqa: RUF071 - of characters, as wanted here
    rests = sorted(text[len(prefix) :] for text in texts)
    branches = [trie_pattern(list(group)) for _, group in groupby(filter(None, rests), lambda rest: rest[0])]
    if not branches:
        return re.escape(prefix)
    return f"{re.escape(prefix)}(?:{'|'.join(branches)}){'' if rests[0] else '?'}"
