"""Values of a model's options that can change which operations it performs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from worker.video.model import Options

__all__ = ["choices", "variants"]


def variants(kind: type[Options]) -> Iterator[Options]:
    """Yield the default options, and one variant for each other value of each option with fixed values."""
    try:
        yield (default := kind())
    except ValidationError:
        return
    for name, field in kind.model_fields.items():
        if get_origin(field.annotation) is Literal:
            for value in get_args(field.annotation):
                if value != getattr(default, name):
                    yield kind(**{name: value})


def choices(options: Options) -> Iterator[Any]:
    """Yield the values of the options that can change which operations a model performs."""
    for name, field in type(options).model_fields.items():
        if get_origin(field.annotation) is Literal or field.annotation is bool:
            yield getattr(options, name)
