"""The control tokens of a model mark the turns of a conversation. No message may contain one."""

import re
from collections.abc import Iterable

__all__ = ["MARK", "ControlTokens"]

#: A character that separates the two parts of a control token in a message. Unicode reserves it for a
#: program's own use, so it has no meaning in a text.
MARK = "\ufdd0"


class ControlTokens:
    """The texts of control tokens, such as `<|im_end|>`.

    Texts of one character are ignored, because they have no two parts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        longest_first = sorted({text for text in texts if len(text) > 1}, key=len, reverse=True)
        self._tokens = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._parts = range(1, len(longest_first[0]) if longest_first else 1)
        self._heads = {text[:size] for text in longest_first for size in self._parts if size < len(text)}
        self._tails = {text[size:] for text in longest_first for size in self._parts if size < len(text)}

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
        if any(core[-size:] in self._heads for size in self._parts):
            content = content[:last] + MARK + content[last:]
        if any(core[:size] in self._tails for size in self._parts):
            content = content[:first] + MARK + content[first:]
        return content

    def interrupted_in(self, text: str) -> bool:
        """Return whether a mark in `text` stands inside of a control token."""
        reach = len(self._parts)
        for mark in re.finditer(MARK, text):
            before = text[max(0, mark.start() - 2 * reach) : mark.start()].replace(MARK, "")[-reach:]
            after = text[mark.end() : mark.end() + 2 * reach].replace(MARK, "")
            for start in range(len(before)):
                token = self._tokens.match(before + after, start)
                if token and token.end() > len(before):
                    return True
        return False
