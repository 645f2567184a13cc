"""The part of a path that names a job."""

from werkzeug.routing import BaseConverter

from worker.jobs.kinds import KINDS

__all__ = ["JobPart"]


class JobPart(BaseConverter):
    """Any part of a path but the names of kinds, to which jobs are submitted (`POST /v1/jobs/chat`)."""

    regex = f"(?!(?:{'|'.join(KINDS)})$)[^/]+"
