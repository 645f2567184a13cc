"""The media types of the files in multipart forms."""

from openapi_pydantic import Encoding

from webapi.description.parts import Json

__all__ = ["encoding_of"]

#: The media type of a file that may have any.
BYTES = "application/octet-stream"


def encoding_of(form: Json) -> dict[str, Encoding]:
    """Return the media types of the files in a form. The API does not look at them, but at the files."""
    fields: Json = {}
    for schema in (form, *form.get("oneOf", ())):
        fields |= schema["properties"]
    found = {}
    for name, field in fields.items():
        kinds = field.get("anyOf", [field])
        files = [each.get("contentMediaType", BYTES) for each in kinds if each.get("format") == "binary"]
        if files:
            found[name] = Encoding(contentType=", ".join(["text/plain"] * (len(files) < len(kinds)) + files))
    return found
