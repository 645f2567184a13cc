"""Makes a model's options of the values and files of a request."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from worker.jobs.errors import InvalidOptions
from worker.jobs.options import options_of
from worker.video.decoding.image import read_background
from worker.video.model import Options
from worker.video.request import VideoRequest
from worker.video.sandbox.sandbox import Sandbox

__all__ = ["read_options"]


def read_options(kind: type[Options], request: VideoRequest, sandbox: Sandbox) -> Options:
    """Return the options of the request. The sandbox decodes those that are pictures.

    Raises `InvalidOptions` if a value is not one that the model takes, which the API does not find out if
    another version of the model has published its options. Raises what `Sandbox.call` raises, and `BadVideo`
    if a picture cannot be decoded.
    """
    values: dict[str, Any] = dict(request.options)
    options = options_of(kind.model_json_schema())
    for name, path in request.uploads.items():
        picture = name in options and options[name].is_picture
        values[name] = read_background(sandbox, path) if picture else path
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidOptions(f"the model does not take {first['loc'][0]}: {first['msg']}") from error
