"""The multipart forms with which clients submit clips: what they may have, and how they become jobs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import request

from webapi.description.parts import without_null
from webapi.services.backend import Backend
from webapi.submission.model_choice import choose_model
from webapi.submission.options import read_options
from webapi.submission.uploads import MAX_PARTS, Parts
from worker.jobs.errors import InvalidInput
from worker.jobs.options import MATTING_OPTIONS, options_of
from worker.jobs.records import ModelCard
from worker.jobs.specs import VideoJob, validate

__all__ = ["ClipForm", "VideoRequest", "form_of"]

#: The fields of a video job that no form has: the API fills them in.
_INTERNAL = {"options", "uploads", "requested"}
_FIELDS: Mapping[str, Any] = {
    name: each for name, each in VideoJob.model_json_schema()["properties"].items() if name not in _INTERNAL
}


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """A request for a video job: all texts of its form, its spec, and the received files.

    `uploads` are the files of options, by name. `pictures` are the names of those that must be images.
    """

    texts: Mapping[str, str]
    spec: VideoJob
    clip: Path
    uploads: Mapping[str, Path]
    pictures: Collection[str]


@dataclass(frozen=True, slots=True)
class ClipForm:
    """A form with the clip as the file `clip`, the fields of a video job, and the options of its model.

    `lenient` means that unknown texts are ignored.
    """

    clip: str
    lenient: bool = False

    def read(self, backend: Backend, parts: Parts) -> VideoRequest:
        """Return the request in the parts of a form, whose files are not looked at.

        Raises `InvalidInput` that names the wrong field, and the errors of `choose_model`.
        """
        if self.clip not in parts.files:
            raise InvalidInput(self.clip, f"{self.clip} is missing: the clip, as a file")
        spec = validate(VideoJob, {name: text for name, text in parts.texts.items() if name in _FIELDS})
        card = choose_model(backend, spec, request.headers.get("Idempotency-Key"))
        options = card.options
        texts = {
            name: text
            for name, text in parts.texts.items()
            if name not in _FIELDS and (name in options or not self.lenient)
        }
        uploads = {name: path for name, path in parts.files.items() if name != self.clip}
        for name in (*texts, *uploads):
            if name not in options:
                raise InvalidInput(name, self._unknown(card))
        values = read_options(options, texts, uploads)
        return VideoRequest(
            texts=parts.texts,
            spec=spec.model_copy(update={"options": values, "uploads": tuple(sorted(uploads))}),
            clip=parts.files[self.clip],
            uploads=uploads,
            pictures=[name for name in uploads if options[name].is_picture],
        )

    def _unknown(self, card: ModelCard) -> str:
        fields, options = ", ".join([self.clip, *_FIELDS]), ", ".join(card.options) or "none"
        return f"is not a field here: the fields are {fields}, and the options of {card.name} are {options}"


def form_of(own: dict[str, Any], required: str, extra: bool) -> dict[str, Any]:
    """Return the schema of a video job's multipart form.

    `own` are the schemas of the form's own fields. The form also has the fields of `VideoJob`, and the
    options of the matting model. `required` names the only required field; `extra` allows unknown fields.
    """
    options = {name: each.form_schema for name, each in options_of(MATTING_OPTIONS).items()}
    shared = {name: _untyped(without_null(each)) for name, each in _FIELDS.items()}
    return {
        "type": "object",
        "properties": own | shared | options,
        "required": [required],
        "maxProperties": MAX_PARTS,
        "additionalProperties": extra,
    }


def _untyped(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without its type if it allows any text: in a form, 5 is a text too."""
    any_text = field.get("type") == "string" and not {"enum", "pattern"} & field.keys()
    return {keyword: value for keyword, value in field.items() if not (any_text and keyword == "type")}
