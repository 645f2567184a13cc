"""The routes of the OpenAPI document and of its page, which loads nothing from other hosts."""

import json
from functools import lru_cache
from importlib.resources import files

from flask import Blueprint, Flask, Response, current_app, request, send_from_directory
from flask.typing import ResponseReturnValue

from webapi.description.route import describe
from webapi.openapi.document import build
from webapi.services.backend import current_backend
from worker.jobs.cards import ModelCard

__all__ = ["routes"]

routes = Blueprint("openapi", __name__)

#: Scripts and styles come from this host only. Swagger UI adds inline styles and `data:` images to the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Stoker API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
"""
START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null, persistAuthorization: false,
});
"""


@routes.get("/openapi.json")
@describe("public")
def document() -> ResponseReturnValue:
    """Show this API's OpenAPI 3.1 document."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    cards = sorted(current_backend().served_models.values(), key=lambda card: card.queue)
    return Response(_json_of(app, request.script_root, tuple(cards)), mimetype="application/json")


@lru_cache(maxsize=8)  # proxies may use different prefixes, and models come and go
def _json_of(app: Flask, prefix: str, cards: tuple[ModelCard, ...]) -> str:
    return json.dumps(build(app, prefix, cards), ensure_ascii=False)


@routes.get("/docs")
@describe("public")
def page() -> ResponseReturnValue:
    """Show the page on which users read the document and try the routes."""
    return Response(PAGE, mimetype="text/html", headers={"Content-Security-Policy": POLICY})


@routes.get("/docs/<name>")
@describe("public")
def asset(name: str) -> ResponseReturnValue:
    """Send a script, style or image of the page."""
    if name == "start.js":
        return Response(START, mimetype="text/javascript")
    return send_from_directory(str(files("flask_swagger_ui") / "dist"), name)
