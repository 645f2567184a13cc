"""The settings of webhooks."""

from typing import Annotated

from pydantic import ConfigDict, Field

from worker.jobs.settings.area import Area, CommaSeparated, matching

__all__ = ["Webhooks"]

Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[
    str,
    matching(
        r"(\*\.)?[a-z0-9_.:-]*[a-z0-9_:-]",
        "a host such as hooks.example.com or *.example.com, in lower case",
    ),
]


class Webhooks(Area):
    """The settings of webhooks."""

    model_config = ConfigDict(title="Webhooks")

    webhook_private: bool = False
    """`True` lets webhooks go to loopback, private and special addresses, on any port. See
    [Destinations](webhooks.md#destinations)."""
    webhook_ports: CommaSeparated[Port] = (80, 443, 8443)
    """The ports to which webhooks may go, separated by commas. Private addresses have no such limit."""
    webhook_hosts: CommaSeparated[Host] = ()
    """The hosts to which webhooks may go, separated by commas: `hooks.example.com` is one host, and
    `*.example.com` is every host below `example.com`. If it is unset, all hosts are allowed."""
    webhook_max_due: int = Field(10_000, ge=1)
    """The number of undelivered webhooks of one API key. Beyond it, those whose next try is furthest away are
    given up."""
    webhook_attempts: int = Field(8, ge=1, le=100)
    """The number of tries at a webhook, from 1 to 100. See [Retries](webhooks.md#retries)."""
    webhook_backoff_s: float = Field(5.0, gt=0)
    """The approximate wait before the second try, in seconds. Each later wait is five times as long as the
    one before it, up to 6 h."""
