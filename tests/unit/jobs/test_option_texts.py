"""Options of frame models in forms: texts become the values that the model's own class accepts."""

from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import Field, JsonValue

from worker.jobs.errors import InvalidInput
from worker.jobs.option_texts import MAX_TEXT, read_options, require_options
from worker.jobs.options import MATTING_OPTIONS, options_of
from worker.video.model import Colour, Options, Picture, Upload


class Style(Enum):
    SOFT = "soft"
    HARD = "hard"


class Everything(Options):
    on: bool = False
    count: int = Field(1, ge=1, le=9)
    strength: float = Field(0.5, ge=0, lt=1)
    title: str = Field("", max_length=8)
    mode: Literal["fast", "good"] = "fast"
    only: Literal["this"] = "this"
    level: Literal[1, 2, "auto"] = "auto"
    style: Style = Style.SOFT
    limit: int | None = None
    scale: float | Literal["fit"] = "fit"
    tint: Colour | Picture = "#000000"
    mask: Upload | None = None


OPTIONS = options_of(Everything.model_json_schema())


class Needed(Options):
    seed: int
    face: Picture


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("on", "true", True),
        ("on", "1", True),
        ("on", "ON", True),
        ("count", "9", 9),
        ("count", " 7 ", 7),
        ("strength", "0.25", 0.25),
        ("strength", "0", 0.0),
        ("strength", "1e-3", 0.001),
        ("title", "5", "5"),
        ("title", "ünï", "ünï"),
        ("mode", "good", "good"),
        ("level", "2", 2),
        ("style", "hard", "hard"),
        ("limit", "3", 3),
        ("scale", "2", 2.0),
        ("tint", "#00B140", "#00B140"),
    ],
)
def test_options_are_read_from_text_and_fit_the_models_class(name: str, text: str, value: JsonValue) -> None:
    found = read_options(OPTIONS, {name: text}, ())
    assert found == {name: value}
    assert type(found[name]) is type(value)
    Everything.model_validate(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("on", "false"),
        ("count", "1"),
        ("strength", "0.50"),
        ("title", ""),
        ("mode", "fast"),
        ("only", "this"),
        ("level", "auto"),
        ("style", "soft"),
        ("limit", ""),
        ("scale", "fit"),
        ("tint", "#000000"),
    ],
)
def test_options_that_equal_their_default_are_left_out(name: str, text: str) -> None:
    assert read_options(OPTIONS, {name: text}, ()) == {}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("on", "perhaps", "true or false"),
        ("on", "", "true or false"),
        ("count", "0", "an integer, at least 1, at most 9"),
        ("count", "1.5", "an integer, at least 1, at most 9"),
        ("count", "9" * 5000, "an integer, at least 1, at most 9"),
        ("strength", "1", "a number, at least 0, below 1"),
        ("strength", "nan", "a number, at least 0, below 1"),
        ("strength", "much", "a number, at least 0, below 1"),
        ("title", "much too long", "a text, at most 8 characters"),
        ("mode", "best", "fast or good"),
        ("only", "that", "this"),
        ("level", "3", "1, 2 or auto"),
        ("style", "odd", "soft or hard"),
        ("limit", "none", "an integer"),
        ("scale", "inf", "a number or fit"),
        ("tint", "green", "a colour as #rrggbb, such as #00b140 or an image file"),
        ("mask", "mask.png", "a file"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(name: str, text: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_options(OPTIONS, {name: text}, ())
    assert (caught.value.field, str(caught.value)) == (name, f"must be {expected}")


def test_options_refuse_a_text_that_fills_redis() -> None:
    options = options_of({"properties": {"title": {"type": "string"}}})
    assert read_options(options, {"title": "x" * MAX_TEXT}, ()) == {"title": "x" * MAX_TEXT}
    with pytest.raises(InvalidInput, match=str(MAX_TEXT)):
        read_options(options, {"title": "x" * (MAX_TEXT + 1)}, ())


def test_options_with_a_pattern_of_another_dialect_are_left_to_the_worker() -> None:
    """Pydantic compiles patterns with Rust's regular expressions."""

    class Named(Options):
        name: str = Field("a", pattern=r"^\p{Lu}\w*$", max_length=4)

    options = options_of(Named.model_json_schema())
    assert read_options(options, {"name": "Ünï"}, ()) == {"name": "Ünï"}
    with pytest.raises(InvalidInput):
        read_options(options, {"name": "Ünïcode"}, ())


def test_options_may_be_files_where_the_model_takes_files() -> None:
    assert read_options(OPTIONS, {}, ["tint", "mask"]) == {}
    assert [name for name, each in OPTIONS.items() if each.is_picture] == ["tint"]
    with pytest.raises(InvalidInput, match="must be true or false, and not a file") as caught:
        read_options(OPTIONS, {}, ["on"])
    assert caught.value.field == "on"


def test_options_without_default_are_required() -> None:
    options = options_of(Needed.model_json_schema())
    require_options(options, ["seed", "face"])
    for given, missing in ((["seed"], "face"), (["face"], "seed")):
        with pytest.raises(InvalidInput, match="is missing") as caught:
            require_options(options, given)
        assert caught.value.field == missing


def test_form_schema_of_an_option_stands_alone() -> None:
    style: Any = OPTIONS["style"].form_schema
    assert style == {"default": "soft", "enum": ["soft", "hard"], "title": "Style", "type": "string"}
    assert OPTIONS["mask"].form_schema == {"type": "string", "format": "binary", "title": "Mask"}


def test_matting_options_are_those_of_release_0_2_0() -> None:
    options = options_of(MATTING_OPTIONS)
    assert read_options(options, {"effect": "blur", "background": "#010203"}, ()) == {
        "effect": "blur",
        "background": "#010203",
    }
    assert not options["effect"].takes_file
    assert options["background"].is_picture
