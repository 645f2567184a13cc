"""The multipart forms with which clients submit clips: what they may have, and how they become jobs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flask import request

from webapi.description.parts import Json, without_null
from webapi.services.backend import Backend
from webapi.submission.model_choice import choose_model
from webapi.submission.multipart import MAX_PARTS, Parts
from worker.jobs.cards import ModelCard
from worker.jobs.errors import InvalidInput
from worker.jobs.option_texts import read_options, require_options
from worker.jobs.options import Option
from worker.jobs.specs import VideoJob, validate

__all__ = ["ClipForm", "VideoRequest"]

CLIP = "The clip. Its name and its media type do not matter."

#: The fields of a video job that no form has: the API fills them in.
_INTERNAL = {"options", "uploads", "requested"}
_FIELDS: Mapping[str, Json] = {
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

    `own` are the schemas of its other fields. `lenient` means that unknown texts are ignored.
    """

    clip: str
    own: dict[str, Json] = field(default_factory=dict)
    lenient: bool = False

    def check(self, backend: Backend, parts: Parts) -> None:
        """Check a form of which only these parts have arrived, so that a wrong one ends before a long upload.

        Without a model among them, nothing can be said if several are served. Raises as `read`.
        """
        if "model" not in parts.texts:  # Redis says what is served now, which may have changed just before
            models = [card for card in backend.registry.served_models() if card.kind == VideoJob.kind]
            if len(models) != 1:
                return
        self._spec(backend, parts)

    def read(self, backend: Backend, parts: Parts) -> VideoRequest:
        """Return the request in the parts of a form, whose files are not looked at.

        Raises `InvalidInput` that names the wrong field, and the errors of `choose_model`.
        """
        spec, options = self._spec(backend, parts)
        if self.clip not in parts.files:
            raise InvalidInput(self.clip, f"{self.clip} is missing: the clip, as a file")
        require_options(options, {*parts.texts, *parts.files})
        return VideoRequest(
            texts=parts.texts,
            spec=spec,
            clip=parts.files[self.clip],
            uploads={name: parts.files[name] for name in spec.uploads},
            pictures=[name for name in spec.uploads if options[name].is_picture],
        )

    def _spec(self, backend: Backend, parts: Parts) -> tuple[VideoJob, Mapping[str, Option]]:
        """Return the spec in the parts, and the options of its model."""
        if self.clip in parts.texts:
            raise InvalidInput(self.clip, f"{self.clip} must be the clip, as a file")
        spec = validate(VideoJob, {name: text for name, text in parts.texts.items() if name in _FIELDS})
        card = choose_model(backend, spec, request.headers.get("Idempotency-Key"))
        options = card.options
        texts = {
            name: text
            for name, text in parts.texts.items()
            if name not in _FIELDS and (name in options or not self.lenient)
        }
        uploads = sorted(parts.files.keys() - {self.clip})
        for name in (*texts, *uploads):
            if name not in options:
                raise InvalidInput(name, self._unknown(card))
        values = read_options(options, texts, uploads)
        return spec.model_copy(update={"options": values, "uploads": tuple(uploads)}), options

    def _unknown(self, card: ModelCard) -> str:
        fields, options = ", ".join([self.clip, *_FIELDS]), ", ".join(card.options) or "none"
        return f"is not a field here: the fields are {fields}, and the options of {card.name} are {options}"

    def schema(self, cards: Sequence[ModelCard], default: str) -> Json:
        """Return the JSON schema of the form for the models of these cards.

        `default` is the model of a form without one, if there are several. Without cards, the schema has the
        options of the matting model.
        """
        if len(cards) < 2:
            return self._form_of(cards[0] if cards else ModelCard("", VideoJob.kind, ""))
        forms = [self._form_of(card) for card in cards]
        for card, form in zip(cards, forms, strict=True):
            form["title"] = card.name
            form["properties"]["model"] = {"const": card.name}
            form["required"] += ["model"] * (card.name != default)
        models = {"enum": [card.name for card in cards], "description": "Decides about the other fields."}
        # The fields of all forms are here, too, for tools that look for them in one place only.
        fields = self._fields() | {"model": models}
        return {"type": "object", "properties": fields, "required": [self.clip], "oneOf": forms}

    def _form_of(self, card: ModelCard) -> Json:
        options = card.options
        return {
            "type": "object",
            "properties": self._fields() | {name: each.form_schema for name, each in options.items()},
            "required": [self.clip, *[name for name, each in options.items() if each.required]],
            "maxProperties": MAX_PARTS,
            "additionalProperties": self.lenient,
        }

    def _fields(self) -> Json:
        clip = {"type": "string", "format": "binary", "contentMediaType": "video/*", "description": CLIP}
        shared = {name: _untyped(without_null(each)) for name, each in _FIELDS.items()}
        return {self.clip: clip} | self.own | shared


def _untyped(field: Json) -> Json:
    """Return the schema without its type if it allows any text: in a form, 5 is a text too."""
    any_text = field.get("type") == "string" and not {"enum", "pattern"} & field.keys()
    return {keyword: value for keyword, value in field.items() if not (any_text and keyword == "type")}
