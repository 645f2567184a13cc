"""The description of one route: the scope that it needs, its requests and its responses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from flask import Flask
from openapi_pydantic import Header, Parameter
from pydantic import BaseModel

from webapi.description.parts import Json
from webapi.keys.key import Scope
from worker.jobs.cards import ModelCard

__all__ = ["AnswerSpec", "Body", "Route", "describe", "require_descriptions", "route_of"]

View = TypeVar("View", bound=Callable[..., Any])

#: The attribute of a view that holds its route.
_ATTRIBUTE = "stoker_route"


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """A response of success: the JSON of a `model`, `content` by media type, both, or no body at all."""

    description: str
    model: type[BaseModel] | None = None
    headers: Mapping[str, Header] = field(default_factory=dict)
    content: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """A request body: the JSON of a `model`, or a multipart form.

    `form` returns the form's schema for the cards of live models, and the name of the default one. `example`
    is the name of the form's example in `examples.json`.
    """

    model: type[BaseModel] | None = None
    form: Callable[[Sequence[ModelCard], str], Json] | None = None
    example: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """The parts of a route's description that its view's name and docstring do not give.

    `scope` is the scope that a key needs. A public route needs no key. `answers` are the responses of success
    by status. The OpenAPI document leaves out a route without them. `errors` are the error statuses besides
    those of every route. A route with `reads` accepts a stream token instead of a key. `submits` is the kind
    of the jobs that the route submits, if it does.
    """

    scope: Scope | Literal["public"]
    answers: Mapping[int, AnswerSpec] = field(default_factory=dict)
    errors: Sequence[int] = ()
    body: Body | None = None
    query: type[BaseModel] | None = None
    parameters: Sequence[Parameter] = ()
    reads: bool = False
    submits: str | None = None

    def __call__(self, view: View) -> View:
        """Describe the view as this route, and return the view."""
        setattr(view, _ATTRIBUTE, self)
        return view


#: The decorator of a view: `@describe("read", {200: AnswerSpec("The job.", JobDocument)}, (404,))`.
describe = Route

#: The route of a view without a description needs `admin`, so that a forgotten one is not open.
_UNDESCRIBED = Route("admin")


def route_of(app: Flask, endpoint: str) -> Route:
    """Return the description of the endpoint's view."""
    found: Route = getattr(app.view_functions[endpoint], _ATTRIBUTE, _UNDESCRIBED)
    return found


def require_descriptions(app: Flask) -> None:
    """Raise `TypeError` if the app has a view without a description."""
    for endpoint in app.view_functions:
        if route_of(app, endpoint) is _UNDESCRIBED:
            raise TypeError(f"the view of {endpoint} has no @describe")
