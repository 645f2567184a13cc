"""The settings that all processes share."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from worker.jobs.kinds import KINDS
from worker.jobs.settings.area import Area, CommaSeparated, matching
from worker.jobs.specs import ChatJob, VideoJob

__all__ = ["General"]


KindName = Annotated[str, matching("|".join(KINDS), f"one of the kinds {', '.join(KINDS)}")]


RedisUrl = Annotated[
    str,
    matching(
        r"(rediss?|unix|sentinels?)://.*",
        "the URL of a Redis, such as redis://host:6379/0 or unix:///run/redis.sock?db=0",
        secret=True,
    ),
]
MediaUrl = Annotated[
    str, matching(r"[a-z][a-z0-9+.-]*://.+", "the URL of a store, such as s3://bucket/path", secret=True)
]
Prefix = Annotated[str, matching(r"[A-Za-z0-9_.-]+", "a name of letters, digits, `_`, `.` and `-`")]
KeyText = Annotated[
    str, matching(r"[!-~]+", "an API key, which is the text that `stoker keys create` printed", secret=True)
]


def _usable(url: str) -> str:
    """Return the URL. Raise an error for parts of it that redis-py would ignore."""
    if url.startswith("sentinel"):  # `SentinelUrl` checks those of Sentinels
        return url
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise PydanticCustomError("port", "its port is not a number from 0 to 65535") from None
    if parts.scheme == "unix" and (parts.netloc.rpartition("@")[2] or parts.path in ("", "/")):
        raise PydanticCustomError("socket", "it has no path of a socket, as unix:///run/redis.sock has")
    if parts.scheme != "unix" and not re.fullmatch("/?[0-9]*", parts.path):
        raise PydanticCustomError("database", "its database is not a number, as in redis://host:6379/0")
    return url


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


class General(Area):
    """The settings that all processes share."""

    model_config = ConfigDict(title="General")

    home: Path = Path("~/.stoker")
    """The folder that holds the models, the media (or the staged copies of a remote media store), the device
    locks, the logs and the data of the embedded Redis server. Stoker takes access to it away from other
    users. See [Files](security.md#files)."""
    media_url: MediaUrl | None = Field(None, repr=False)
    """The media store that hosts without a common disk share, as a URL that fsspec opens, such as
    `s3://bucket/path`. If it is unset, clips, segments and results are stored in the folder `media` of
    `STOKER_HOME`. See [Media store](deployment.md#media-store)."""
    redis_url: Annotated[RedisUrl, AfterValidator(_usable)] | None = Field(None, repr=False)
    """The Redis of the ledger and the Celery queues: one server, or a group of servers that Sentinels watch
    (`sentinel://host:26379,host:26379,host:26379/mymaster?db=0`), but not a Redis Cluster. See
    [Failover](deployment.md#failover). If it is unset, `stoker up` starts an embedded Valkey, and all other
    commands use the Redis of a running `stoker up`, or else `redis://127.0.0.1:6379/0`."""
    redis_password: str | None = Field(None, repr=False)
    """The password of Redis, for a `STOKER_REDIS_URL` that contains none."""
    redis_replicas: int = Field(0, ge=0)
    """The number of replicas that must have a write before the API confirms it to a client. With `0` a
    failover may lose the last writes. See [Failover](deployment.md#failover)."""
    prefix: Prefix = "stoker"
    """The first part of every Redis key and channel, so that several installations can share one Redis."""
    url: str = "http://127.0.0.1:8000"
    """The URL at which the command line finds the API. If it is unset and `stoker up` runs on this machine,
    the command line uses that API."""
    api_key: KeyText | None = Field(None, repr=False)
    """The API key that the command line sends. See [Keys](security.md#keys)."""
    kinds: Annotated[CommaSeparated[KindName], Field(min_length=1), AfterValidator(_each_once)] = (
        ChatJob.kind,
        VideoJob.kind,
    )
    """The kinds of job that this installation serves, separated by commas. The API refuses jobs of other
    kinds, and is ready without workers for them. See [Kinds](deployment.md#kinds)."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`. `DEBUG` applies to Stoker's own
    lines and gunicorn's. Other libraries stay at `INFO`. See [Logs](logging.md)."""
    log_format: Literal["text", "json"] = "text"
    """The form of log lines: `text`, or `json` with one JSON object a line. See [Logs](logging.md)."""
    log_file: Path | None = None
    """The file that a process logs to instead of its standard error. When the file has been renamed, the
    process opens a new one. `stoker up` sets it for each of its processes. See
    [Rotation](logging.md#rotation)."""
    log_max_bytes: int = Field(50 * 2**20, ge=1)
    """The size in bytes at which `stoker up` rotates a log file. It keeps three older files of each process.
    See [Rotation](logging.md#rotation)."""

    @property
    def home_dir(self) -> Path:
        """The absolute path of `home`."""
        return self.home.expanduser().absolute()

    @property
    def models_dir(self) -> Path:
        """The folder of fetched and converted models."""
        return self.home_dir / "models"

    @property
    def media_dir(self) -> Path:
        """The folder of the jobs' files if there is no `media_url`. Each prefix has a folder of its own."""
        return self.home_dir / "media" / self.prefix

    @property
    def staging_dir(self) -> Path:
        """The folder of copies of files from `media_url` that a process of this machine works on."""
        return self.home_dir / "staging" / self.prefix

    @property
    def broker_url(self) -> str:
        """The URL of the Redis to connect to, with the password if there is one."""
        url = self.redis_url or "redis://127.0.0.1:6379/0"
        parts = urlsplit(url)
        if self.redis_password is None or parts.password is not None:
            return url
        user, address = parts.username or "", parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{user}:{quote(self.redis_password, safe='')}@{address}").geturl()
