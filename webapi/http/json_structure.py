"""Limits of a JSON text's structure, checked before the text is parsed.

To parse or validate a few MiB of brackets takes seconds, in which the process serves nobody else. To read the
tokens of a text up to a limit takes milliseconds.
"""

import re

from werkzeug.exceptions import BadRequest

from worker.jobs.errors import InvalidInput

__all__ = ["MAX_KEYS", "check_structure"]

#: Most strings, other values, brackets and colons together. A message of a chat has eight of them.
MAX_TOKENS = 2**16
#: Most keys of one object. A `logit_bias` may have this many.
MAX_KEYS = 1024
#: Most objects and lists inside each other.
MAX_DEPTH = 32
#: Most characters of a number.
MAX_DIGITS = 100

#: Separators, and then a string (the last one may lack its end), a bracket, a colon, or another word, such as
#: a number. The quantifiers give nothing back, so that no text makes the search slow.
_TOKEN = re.compile(r'[ \t\r\n,]*+("[^"]*+"?|[{}\[\]:]|[^ \t\r\n,"{}\[\]:]++)')


def check_structure(text: str) -> None:
    """Raise `InvalidInput` if the text exceeds a limit, and `BadRequest` if it is nested too deeply.

    A text that is not valid JSON may pass.
    """
    text = text.replace(r"\\", "").replace(r"\"", "")  # the remaining quotes begin and end strings
    keys = [0]  # of each object or list that is open here
    for number, token in enumerate(_TOKEN.finditer(text.rstrip(" \t\r\n,"))):
        if number == MAX_TOKENS:
            raise InvalidInput("body", f"the JSON has more than {MAX_TOKENS} strings, values and brackets")
        start, end = token.span(1)
        mark = text[start]
        if mark in "{[":
            keys.append(0)
            if len(keys) > MAX_DEPTH + 1:
                raise BadRequest("The JSON is nested too deeply.")
        elif mark in "}]":
            keys.pop()
            if not keys:
                return  # it closes what was never opened
        elif mark == ":":
            keys[-1] += 1
            if keys[-1] > MAX_KEYS:
                raise InvalidInput("body", f"an object may have at most {MAX_KEYS} keys")
        elif mark != '"' and end - start > MAX_DIGITS:
            raise InvalidInput("body", f"a number may have at most {MAX_DIGITS} digits")
