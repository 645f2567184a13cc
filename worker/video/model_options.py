"""Makes a model's options of the values and files of a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from worker.jobs.errors import InvalidOptions
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
    properties = kind.model_json_schema().get("properties", {})
    values = dict(request.options)
    for name, path in request.uploads.items():
        picture = _is_picture(properties.get(name, {}))
        values[name] = _read_picture(sandbox, path) if picture else path
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidOptions(f"the model does not take {first['loc'][0]}: {first['msg']}") from error


def _is_picture(option: Mapping[str, Any]) -> bool:
    return any(part.get("contentMediaType") == "image/*" for part in option.get("anyOf", [option]))


def _read_picture(sandbox: Sandbox, path: Path) -> NDArray[np.uint8]:
    """Return the upright image as (height, width, 3) uint8 RGB."""
    picture = np.empty(sandbox.call("image", path=path)["shape"], np.uint8)
    sandbox.wait(sandbox.submit(sandbox.receive_pixels, picture))
    return picture
