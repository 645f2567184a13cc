"""JSON schemas for structured answers."""

from collections.abc import Callable
from random import Random
from typing import Any

__all__ = ["CITY", "TOWN", "random_schema"]

#: An object with a text, a number and a list.
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "people": {"type": "integer", "minimum": 0, "maximum": 99999},
        "tags": {"type": "array", "items": {"enum": ["big", "old", "rich"]}, "maxItems": 3},
    },
    "required": ["city", "people", "tags"],
    "additionalProperties": False,
}

#: An object with a text and a truth value, whose answers are short.
TOWN: dict[str, Any] = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 9}, "old": {"type": "boolean"}},
    "required": ["town", "old"],
    "additionalProperties": False,
}


def random_schema(rng: Random, depth: int = 3) -> dict[str, Any]:
    """Return a schema of some of the keywords that clients use. Its answers are limited in size."""
    if depth == 3:
        return {"$defs": {"shared": random_schema(rng, 1)}, **_object(rng, depth)}
    makers: list[Callable[[Random, int], dict[str, Any]]] = [_text, _number, _fixed]
    if depth > 1:
        makers += [_object, _list, _union, lambda *_: {"$ref": "#/$defs/shared"}]
    return rng.choice(makers)(rng, depth)


def _object(rng: Random, depth: int) -> dict[str, Any]:
    names = [f"{rng.choice('abcdefgh')}_{n}" for n in range(rng.randint(1, 4))]
    return {
        "type": "object",
        "properties": {name: random_schema(rng, depth - 1) for name in names},
        "required": [name for name in names if rng.random() < 0.7],
        "additionalProperties": False,
    }


def _list(rng: Random, depth: int) -> dict[str, Any]:
    least = rng.randint(0, 2)
    items = random_schema(rng, depth - 1)
    return {"type": "array", "items": items, "minItems": least, "maxItems": least + rng.randint(0, 2)}


def _union(rng: Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [random_schema(rng, depth - 1) for _ in range(rng.randint(2, 3))]}


def _text(rng: Random, _: int) -> dict[str, Any]:
    forms: list[dict[str, Any]] = [
        {"minLength": rng.randint(0, 4), "maxLength": rng.randint(4, 16)},
        {"pattern": rng.choice(["^[a-z]{2,5}$", "^[A-Z][a-z]{1,9}-[0-9]{3}$", "^(yes|no|perhaps)$"])},
        {"format": rng.choice(["date", "ipv4", "uuid"])},
    ]
    return {"type": "string", **rng.choice(forms)}


def _number(rng: Random, _: int) -> dict[str, Any]:
    least, step = rng.randint(-50, 50), rng.choice([None, 2, 5])
    size = {"minimum": least, "maximum": least + rng.choice([10, 100, 12345])}
    return {"type": "integer", **size, **({"multipleOf": step} if step else {})}


def _fixed(rng: Random, _: int) -> dict[str, Any]:
    values: list[Any] = [True, None, "größer", 'a "quoted" word', 7, -1.5, [1, 2], {"a": 1}]
    return rng.choice(
        [
            {"enum": rng.sample(values, 3)},
            {"const": rng.choice(values)},
            {"type": "boolean"},
            {"type": "null"},
        ]
    )
