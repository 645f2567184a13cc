"""The Flask app: `gunicorn -k gevent 'webapi.app:create_app()'`."""

import logging

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from webapi.auth import authenticate, stream_tokens
from webapi.http import open_files, problems, security_headers
from webapi.native import events, jobs, ops
from webapi.openai import errors, videos
from webapi.openai import routes as openai
from webapi.openapi import routes as openapi
from webapi.services.backend import Backend
from webapi.services.warmup import ApiWarmUp
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.settings import Settings, set_env

__all__ = ["create_app"]


class JSON(DefaultJSONProvider):
    """Fields in the order of their documents, text as it is."""

    ensure_ascii = False
    sort_keys = False


class Stoker(Flask):
    """Flask with our JSON."""

    json_provider_class = JSON


def create_app(settings: Settings | None = None) -> Flask:
    """An app for these settings, by default those of the environment; it takes part in recovery."""
    settings = settings or Settings.from_env()
    set_env(TOKENIZERS_PARALLELISM="false")  # a prompt is one text: threads for it would only be woken
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    open_files.raise_limit()
    app = Stoker(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.extensions["stoker"] = backend = Backend.from_settings(settings)
    Recovery(backend.ledger, backend.media).start()
    ApiWarmUp(backend).start()
    for module in (jobs, events, stream_tokens, ops, openai, videos, openapi):
        app.register_blueprint(module.routes)
    authenticate.register(app)
    security_headers.register(app, settings)
    problems.register(app, renderers=[errors])
    return app
