"""The Flask app of the HTTP API. Serve it with `gunicorn -k gevent 'webapi.app:create_app()'`."""

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from webapi.auth import audit, authenticate, refusals, stream_tokens
from webapi.batches import routes as batches
from webapi.batches.feeder import Feeder
from webapi.description.route import require_descriptions
from webapi.files import routes as files
from webapi.http import open_files, problems, request_times, security_headers, trusted_proxies
from webapi.kinds import served
from webapi.native import events, jobs, operations, ops
from webapi.openai import errors, streams, tokenizer, videos
from webapi.openai import routes as openai
from webapi.openai.text_completions import routes as text_completions
from webapi.openapi import routes as openapi
from webapi.page import routes as page
from webapi.responses import routes as responses
from webapi.services import log_limiter, request_ids
from webapi.services.backend import Backend
from webapi.services.warmup import ApiWarmUp
from webapi.tracing import register as tracing
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.home import protect_home
from worker.jobs.logs.setup import configure
from worker.jobs.settings import Settings, set_env

__all__ = ["create_app"]


#: The loggers of lines that requests without a valid key can cause.
ANONYMOUS_LOGGERS = ("gunicorn.error", problems.__name__)


class JSON(DefaultJSONProvider):
    """JSON that keeps the order of fields and does not escape non-ASCII text."""

    ensure_ascii = False
    sort_keys = False


class Stoker(Flask):
    """A Flask app that answers with `JSON`."""

    json_provider_class = JSON


def create_app(settings: Settings | None = None) -> Flask:
    """Create the app for these settings, by default those of the environment.

    It starts the threads of recovery, of the warm-up, of batches and of the metrics of requests. It raises
    this process's limit of open files, and makes the files that this process creates inaccessible to others.
    Raises `ConfigurationError` if the settings are wrong.
    """
    settings = settings or Settings.from_env()
    protect_home(settings.home_dir)
    set_env(TOKENIZERS_PARALLELISM="false")  # threads tokenize several texts, but a prompt is one
    configure(settings)  # under gunicorn, `webapi.server.logger` has done it already
    log_limiter.limit(*ANONYMOUS_LOGGERS)
    audit.logger.setLevel("INFO")  # whatever the level of other lines
    open_files.raise_limit()
    app = Stoker(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.extensions["stoker"] = backend = Backend.from_settings(settings)
    Recovery(backend.dispatcher, backend.media, backend.announcements).start()
    ApiWarmUp(backend).start()
    Feeder(app, backend).start()
    backend.announcements.start()
    backend.requests.start()
    native = jobs, events, stream_tokens, ops, operations
    foreign = openai, text_completions, tokenizer, streams, videos, responses, files, batches
    for module in (*native, *foreign, openapi, page):
        app.register_blueprint(module.routes)
    require_descriptions(app)
    tracing.register(app, backend)
    trusted_proxies.register(app, settings)
    request_ids.register(app)
    request_times.register(app, backend.requests)
    authenticate.register(app)
    served.register(app, settings)
    refusals.register(app)
    security_headers.register(app, settings)
    problems.register(app, renderers=[errors])
    return app
