"""The routes of the page and of its files. The page loads nothing from another host."""

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from webapi.description.route import describe
from webapi.page.files import page_file

__all__ = ["routes"]

routes = Blueprint("page", __name__)

#: The page shows the clip that a user has chosen before its upload, which is a `blob:` URL.
POLICY = (
    "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@routes.get("/")
@describe("public")
def page() -> ResponseReturnValue:
    """Show the page."""
    response = _send("index.html")
    response.headers["Content-Security-Policy"] = POLICY
    return response


@routes.get("/page/<path:name>")
@describe("public")
def asset(name: str) -> ResponseReturnValue:
    """Send a script, style or image of the page."""
    return _send(name)


def _send(name: str) -> Response:
    """Return the file, compressed if the client can read it, or 304 if the client has it already."""
    try:
        file = page_file(name)
    except OSError:  # there is no such file, or it is a folder
        raise NotFound from None
    zipped = bool(request.accept_encodings["gzip"])
    response = Response(
        file.gzipped if zipped else file.content, content_type=f"{file.media_type}; charset=utf-8"
    )
    if zipped:
        response.content_encoding = "gzip"
    response.vary.add("Accept-Encoding")
    response.headers["Cache-Control"] = "no-cache"  # browsers keep the file, and ask whether it has changed
    response.set_etag(file.etag + ("-gzip" if zipped else ""))
    response.make_conditional(request)
    return response
