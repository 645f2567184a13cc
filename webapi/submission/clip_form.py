"""The description of the multipart forms with which clients submit clips."""

from typing import Any

from webapi.description.parts import without_null
from webapi.submission.uploads import MAX_PARTS
from worker.jobs.specs import VideoJob

__all__ = ["COLOUR", "form_of"]

_FIELDS = VideoJob.model_json_schema()["properties"]
#: The fields of a video job that no form has: the API fills them in.
_INTERNAL = {"background_image", "requested"}

COLOUR: dict[str, Any] = _FIELDS["background"]


def form_of(own: dict[str, Any], required: str, extra: bool) -> dict[str, Any]:
    """Return the schema of a video job's multipart form.

    `own` are the schemas of the form's own fields. The form also has the fields of `VideoJob`. `required`
    names the only required field; `extra` allows unknown fields.
    """
    shared = {
        name: _untyped(without_null(_FIELDS[name])) for name in _FIELDS if name not in _INTERNAL | own.keys()
    }
    return {
        "type": "object",
        "properties": own | shared,
        "required": [required],
        "maxProperties": MAX_PARTS,
        "additionalProperties": extra,
    }


def _untyped(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without its type if it allows any text: in a form, 5 is a text too."""
    any_text = field.get("type") == "string" and not {"enum", "pattern"} & field.keys()
    return {keyword: value for keyword, value in field.items() if not (any_text and keyword == "type")}
