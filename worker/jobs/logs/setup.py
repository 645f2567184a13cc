"""The setup of the logs of a process."""

import logging

from worker.jobs.logs.formats import JsonLines, TextLines
from worker.jobs.logs.handler import LineHandler
from worker.jobs.logs.printed import log_uncaught
from worker.jobs.logs.redaction import Redactor, secrets_of
from worker.jobs.settings import Settings
from worker.jobs.system_errors import sentence

__all__ = ["configure", "line_format", "take_process"]

#: The loggers that STOKER_LOG_LEVEL=DEBUG applies to. At DEBUG, libraries log headers, URLs and arguments.
_OWN = ("webapi", "worker", "stoker")
#: Libraries that log URLs at INFO.
_QUIET = ("httpx",)


def line_format(settings: Settings) -> logging.Formatter:
    """Return the format of the lines. It removes the secrets in the settings from them."""
    redact = Redactor(secrets_of(settings))
    return JsonLines(redact) if settings.log_format == "json" else TextLines(redact)


def configure(settings: Settings) -> None:
    """Log to the standard error of this process, unless the root logger has handlers already.

    Raises `SystemExit` with the reason if the log file cannot be opened.
    """
    try:
        handler = LineHandler(settings.log_file) if not logging.root.handlers else logging.NullHandler()
    except OSError as error:
        raise SystemExit(f"stoker: STOKER_LOG_FILE: {sentence(error)}") from error
    handler.setFormatter(line_format(settings))
    own = logging.getLevelNamesMapping()[settings.log_level]
    logging.basicConfig(level=max(own, logging.INFO), handlers=[handler])
    for name in _OWN if own < logging.INFO else ():
        logging.getLogger(name).setLevel(own)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def take_process(settings: Settings) -> None:
    """Log, and let this process write nothing else: neither prints, nor warnings, nor uncaught exceptions."""
    configure(settings)
    logging.captureWarnings(True)
    log_uncaught()
