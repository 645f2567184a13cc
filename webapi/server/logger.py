"""gunicorn's logs, as those of all other processes."""

from typing import Any

from gunicorn.glogging import Logger as GunicornLogger

from worker.jobs.logs.setup import line_format, take_process
from worker.jobs.settings import Settings

__all__ = ["Logger"]

#: The beginning of a line about a request that gunicorn cannot read. The rest of the line quotes the request.
_UNREADABLE = "Invalid request from ip="


class Logger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's logger, whose lines go to the log of the process, or to the files of its options."""

    def setup(self, cfg: Any) -> None:
        """Set up the logs of this process. gunicorn calls this in its first process, which then forks."""
        super().setup(cfg)
        settings = Settings.from_env()
        take_process(settings)
        for log, target in ((self.error_log, cfg.errorlog), (self.access_log, cfg.accesslog)):
            if target in (None, "-"):
                log.handlers.clear()
                log.propagate = True
            for handler in log.handlers:
                handler.setFormatter(line_format(settings))

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> dict[str, Any]:
        """Return the parts of access log lines, without queries, which may contain tokens."""
        atoms: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        method, uri, protocol = (environ[name] for name in ("REQUEST_METHOD", "RAW_URI", "SERVER_PROTOCOL"))
        shown = {"r": f"{method} {_path(uri)} {protocol}", "q": "", "f": _path(atoms["f"])}
        return {name: value for name, value in atoms.items() if not name.startswith("{")} | shown

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log a warning, without the part of an unreadable request that gunicorn quotes."""
        if isinstance(msg, str) and msg.startswith(_UNREADABLE):
            msg = msg.partition(": ")[0]
        super().warning(msg, *args, **kwargs)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log an exception. The arguments are paths, whose queries are left out."""
        super().exception(msg, *map(_path, args), **kwargs)


def _path(uri: Any) -> Any:
    return uri.partition("?")[0] if isinstance(uri, str) else uri
