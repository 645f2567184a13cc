"""The token ids of a prompt as text. They travel with the job, so that its worker need not tokenise again."""

from array import array
from base64 import b64decode, b64encode
from collections.abc import Sequence
from sys import byteorder

from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.specs import ChatJob

__all__ = ["pack", "unpack"]

#: Ids below this number take two bytes each. Others take three.
LONG_IDS = 1 << 16


def pack(template: PromptTemplate, job: ChatJob, ids: Sequence[int]) -> str:
    """Return the ids of the job's prompt, which this template has made, as text for `unpack`.

    The text is empty if a worker must make the ids itself: the spec has them already, or they depend on the
    length of the worker's context.
    """
    if isinstance(job.prompt, list) or job.truncate_prompt_tokens == -1:
        return ""
    width = 2 if max(ids, default=0) < LONG_IDS else 3
    words = array("I", ids)
    if byteorder == "big":
        words.byteswap()
    given, packed = words.tobytes(), bytearray(width * len(ids))
    for place in range(width):
        packed[place::width] = given[place :: words.itemsize]
    return f"{template.digest} {width} {b64encode(packed).decode()}"


def unpack(template: PromptTemplate, text: str) -> list[int] | None:
    """Return the token ids in the text of `pack`, or None if another template or version has made it."""
    digest, _, rest = text.partition(" ")
    width_text, _, encoded = rest.partition(" ")
    if digest != template.digest or width_text not in ("2", "3"):
        return None
    width, packed = int(width_text), b64decode(encoded)
    words = array("I")
    whole = bytearray(words.itemsize * (len(packed) // width))
    for place in range(width):
        whole[place :: words.itemsize] = packed[place::width]
    words.frombytes(whole)
    if byteorder == "big":
        words.byteswap()
    return words.tolist()
