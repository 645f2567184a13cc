"""The Flask app: `gunicorn -k gevent 'webapi.app:create_app()'`."""

import logging

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from webapi import auth, browsers, jobs, open_files, ops, problems, streams, tokens
from webapi.backend import Backend
from webapi.openai import routes as openai
from webapi.openai import videos
from webapi.openapi import routes as openapi
from webapi.warmup import WarmUp
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.settings import Settings, export

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
    export(TOKENIZERS_PARALLELISM="false")  # a prompt is one text: threads for it would only be woken
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    open_files.allow()
    app = Stoker(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.extensions["stoker"] = stoker = Backend.of(settings)
    Recovery(stoker.ledger, stoker.media).start()
    WarmUp(stoker).start()
    for module in (jobs, streams, tokens, ops, openai, videos, openapi):
        app.register_blueprint(module.routes)
    auth.register(app)
    browsers.register(app, settings)
    problems.register(app)
    return app
