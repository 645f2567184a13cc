"""The handler of vLLM's loggers, in the worker and in vLLM's own processes. `logging.json` names it."""

import logging
import multiprocessing

from worker.jobs.logs.handler import LineHandler
from worker.jobs.logs.setup import line_format, take_process
from worker.jobs.settings import Settings, vllm_log_level

__all__ = ["make_handler"]


def make_handler() -> logging.Handler:
    """Return the handler. In a process of vLLM's own, set up the log of the process, too."""
    settings = Settings.from_env()
    if multiprocessing.parent_process():
        take_process(settings)
    handler = LineHandler(settings.log_file)
    handler.setFormatter(line_format(settings))
    handler.setLevel(vllm_log_level())
    return handler
