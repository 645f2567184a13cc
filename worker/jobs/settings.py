"""The settings, and the only code that reads or writes environment variables."""

import json
import os
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from worker.jobs.errors import ConfigurationError
from worker.jobs.limits import ClipSize, Limits

PREFIX = "STOKER_"


class Settings(BaseModel):
    """The settings of one process. Each field is read from `STOKER_<FIELD>`.

    The docstring below a field is its text in docs/settings.md, which `docs/generate_settings.py` writes. A
    field that `repr` omits is a secret: it is also read from the file that `STOKER_<FIELD>_FILE` names.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    home: Path = Path("~/.stoker")
    """The folder that holds the models, the media (or the staged copies of a remote media store), the device
    locks, the logs and the data of the embedded Redis server. Stoker takes access to it away from other
    users. See [Files](security.md#files)."""
    media_url: str | None = Field(None, repr=False, pattern=r"^[a-z][a-z0-9+.-]*://.")
    """The media store that hosts without a common disk share, as a URL that fsspec opens, such as
    `s3://bucket/path`. If it is unset, clips, segments and results are stored in the folder `media` of
    `STOKER_HOME`. See [Media store](deployment.md#media-store)."""
    redis_url: str | None = Field(None, repr=False, pattern=r"^(rediss?|unix|sentinels?)://")
    """The Redis of the ledger and the Celery queues: one server, or a group of servers that Sentinels watch
    (`sentinel://host:26379,host:26379,host:26379/mymaster?db=0`), but not a Redis Cluster. See
    [Failover](deployment.md#failover). If it is unset, `stoker
    up` starts an embedded Valkey, and all other commands use `redis://127.0.0.1:6379/0`. `stoker keys` and
    `stoker worker health` first look for the Redis of a running `stoker up`."""
    redis_password: str | None = Field(None, repr=False)
    """The password of Redis, for a `STOKER_REDIS_URL` that contains none."""
    redis_replicas: int = Field(0, ge=0)
    """The number of replicas that must have a write before the API confirms it to a client. With `0` a
    failover may lose the last writes. See [Failover](deployment.md#failover)."""
    prefix: str = Field("stoker", pattern=r"^[A-Za-z0-9_.-]+$")
    """The first part of every Redis key and channel, so that several installations can share one Redis."""
    url: str = "http://127.0.0.1:8000"
    """The URL at which the command line finds the API. If it is unset and `stoker up` runs on this machine,
    the command line uses that API."""
    api_key: str | None = Field(None, repr=False, pattern=r"^[!-~]+$")
    """The API key that the command line sends. See [Keys](security.md#keys)."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is logged: `DEBUG` (two lines for each job), `INFO`, `WARNING` or `ERROR`."""

    host: str = "127.0.0.1"
    """The address that the API listens on. Without a key the API accepts loopback addresses only. See [Before
    the first key](security.md#before-the-first-key)."""
    port: int = Field(8000, ge=0, le=65535)
    """The port that the API listens on. `stoker up` takes any free port for `0`."""
    web_processes: int = Field(1, ge=1)
    """The number of API processes. Each of them can hold any number of event streams, up to its limit of
    connections."""
    no_auth: bool = False
    """`True` makes the API trust every caller, even if there are keys."""
    cors_origins: str = ""
    """The origins whose web pages may use the API, with scheme and port, separated by commas. Patterns are
    not allowed. See [CORS and headers](security.md#cors-and-headers)."""
    token_s: int = Field(600, ge=1)
    """The lifetime of a stream token, in seconds. See [Browser tokens](security.md#browser-tokens)."""
    heartbeat_s: float = Field(15.0, gt=0)
    """The seconds between two comment lines on an idle event stream, which keep proxies from closing it."""

    head_timeout_s: float = Field(10.0, gt=0)
    """The seconds within which a client must send the head of a request. See
    [Connections](security.md#connections)."""
    stall_timeout_s: float = Field(60.0, gt=0)
    """The seconds for which a client may keep the API waiting while it sends a body or reads a response. Each
    16 KiB add a second, up to this number. See [Connections](security.md#connections)."""
    max_open_streams_per_key: int = Field(1000, ge=1)
    """The number of event streams, and of requests that wait for the end of a job, that one key may have open
    in one API process."""
    max_connections_per_address: int = Field(1000, ge=0)
    """The number of connections that one address may have open in one API process. `0` means any number. See
    [Connections](security.md#connections)."""
    trusted_proxies: str = "127.0.0.1,::1"
    """The addresses and networks of proxies in front of the API, separated by commas. The API believes their
    `X-Forwarded-Proto`, and any number of clients may come from them. See [A proxy with
    TLS](deployment.md#a-proxy-with-tls)."""

    worker: Literal["chat", "video"] | None = None
    """The kind of job that this worker serves, `chat` or `video`. `stoker worker` sets it."""
    devices: str = "auto"
    """The devices of this worker. `auto` takes the first GPU that no worker holds and that has enough free
    memory, and the CPU if the machine has no GPU. `spare` does the same but never takes the first GPU, and
    takes the CPU if no other one is free (`stoker up` gives this value to its video worker). `cpu` takes no
    GPU. A list such as `0` or `0,1` names GPUs by index or UUID. See [Devices](workers.md#devices)."""
    locks_dir: Path | None = None
    """The folder of the device locks, if it is not `locks` in `STOKER_HOME`. Users who share the GPUs of a
    machine need one folder that all of them can write to. See [Devices](workers.md#devices)."""
    device_free_bytes: int | None = Field(None, ge=0)
    """The memory, in bytes, that a GPU must have free to be chosen by `auto` or `spare`. If it is unset, half
    of the GPU's memory must be free."""
    device_wait_s: float = Field(0.0, ge=0)
    """The seconds that `auto` waits for a GPU while other workers hold all of them. `inf` waits for ever."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """The engine of a chat worker: `transformers`, `vllm`, or `auto`, which takes vLLM if it is installed and
    the worker has leased a GPU. See [Chat engines](workers.md#chat-engines)."""
    vllm_args: str = "{}"
    """The arguments of vLLM's engine, as a JSON object."""
    chat_model: str = "SmolLM2-135M-Instruct"
    """The chat model: the name of a default model, a Hugging Face directory, or a `.gguf` file. The API sends
    a chat that names no model to this model."""
    video_model: str = "selfie_segmentation"
    """The video model: the name of a default model, or a file of weights. The API sends a video that names no
    model to this model."""
    slots: int = Field(8, ge=1)
    """The number of chats that run at once in one worker."""
    context_length: int = Field(2048, ge=16)
    """The largest number of tokens of a prompt and its answer together. The model's own limit applies too."""
    shared_prefix_cache: bool = False
    """`True` lets chats of different API keys share cached prefixes of their prompts. This is quicker where
    the prompts of many keys begin alike, but tells each key what others have sent. See [Prompts of other
    keys](security.md#prompts-of-other-keys)."""
    control_tokens: bool = False
    """`True` lets messages contain control tokens of the model, such as `<|im_end|>`. Otherwise they are
    plain text. See [Control tokens](security.md#control-tokens)."""
    batch_size: int = Field(16, ge=1)
    """The number of frames in a batch of a video. The last, short batch of a clip is padded to it."""
    pad: bool = True
    """Whether the last, short batch of a clip is padded. `False` (`--no-pad`) lets a benchmark measure what
    the padding saves."""
    video_sizes: str = "640x360,1280x720,1920x1080"
    """The clip sizes, in pixels and separated by commas, that a video worker on a GPU warms up for when it
    starts. For a clip of another size it warms up before the clip's first batch."""
    compile: bool = False
    """`True` (`--compile`) lets torch compile the video model. This needs a C++ compiler and makes the start
    half a minute longer."""
    segment_batches: int = Field(4, ge=1)
    """The number of batches in a segment of a video. After the loss of a worker, at most this many batches
    are computed again."""
    drain_s: float = Field(30.0, ge=0)
    """The seconds that a stopping worker may continue its jobs before it hands them over. See [Signals and
    draining](workers.md#signals-and-draining)."""

    lease_ttl_s: float = Field(10.0, gt=0)
    """The lifetime of a worker's lease, in seconds. A worker that is silent for longer loses its jobs. It is
    also the time that a running job's cancel may take if the worker does not react. Keep it at 2 s or
    more."""
    max_attempts: int = Field(3, ge=1)
    """The number of lost workers after which a job fails with `worker_lost`."""
    timeout_s: float = Field(3600.0, gt=0)
    """The seconds from a job's first start to its end, unless the job has its own `timeout_s`. A job that
    takes longer fails with `timeout`. See [Timeouts](queueing.md#timeouts)."""
    max_queue_s: float = Field(86_400.0, gt=0)
    """The seconds that a job may wait for its first start, unless the job has its own `max_queue_s`. A job
    that waits longer fails with `expired`. See [Timeouts](queueing.md#timeouts)."""
    max_timeout_s: float = Field(86_400.0, gt=0)
    """The largest `timeout_s` that a request may ask for, in seconds."""
    max_queue_limit_s: float = Field(604_800.0, gt=0)
    """The largest `max_queue_s` that a request may ask for, in seconds."""
    max_waiting: int = Field(1000, ge=1)
    """The number of jobs that may wait in one queue. The API then refuses keys that have an equal share with
    429. See [Caps and 429](queueing.md#caps-and-429)."""
    max_waiting_per_key: int = Field(250, ge=1)
    """The number of jobs that an API key made without `--max-waiting` may have waiting, in all queues
    together."""
    max_kept_jobs: int = Field(100_000, ge=1)
    """The number of ended jobs that are kept for one API key. Beyond it the oldest are deleted before their
    retention is over. See [What is kept](queueing.md#what-is-kept)."""
    max_kept_bytes: int = Field(256 * 2**20, ge=1)
    """The bytes that the jobs of one API key, ended or not, may occupy in Redis. See [What is
    kept](queueing.md#what-is-kept)."""
    max_kept_file_bytes: int = Field(20 * 2**30, ge=1)
    """The bytes that the files of one API key's jobs, ended or not, may have together. See [What is
    kept](queueing.md#what-is-kept)."""
    max_upload_bytes: int = Field(512 * 2**20, ge=1)
    """The largest size of one upload, in bytes."""
    max_uploads: int = Field(64, ge=1)
    """The number of uploads that the API processes of a host receive at the same time. The API refuses more
    with 429. See [Uploads at the same time](security.md#uploads-at-the-same-time)."""
    max_uploads_per_key: int = Field(16, ge=1)
    """The number of uploads of one API key that the API processes of a host receive at the same time. Callers
    without a key count together."""
    max_probes: int = Field(4, ge=1)
    """The number of uploads that the API processes of a host examine at the same time. Each of them can take
    512 MiB of memory. The uploads of one API key get half of the number, or 1."""
    min_free_bytes: int = Field(2**30, ge=0)
    """The space, in bytes, that uploads leave free on the disk that receives them. The API refuses more with
    507."""
    max_pixels: int = Field(3840 * 2160, ge=256)
    """The largest width times height of a clip, and of a background image."""
    max_frames: int = Field(100_000, ge=1)
    """The largest number of frames of a clip."""
    max_duration_s: float = Field(3600.0, gt=0)
    """The longest duration of a clip, in seconds."""
    max_streams: int = Field(16, ge=1)
    """The largest number of streams of all kinds in the file of a clip. The API checks what the file declares
    about pixels, frames, duration and streams. The worker checks what it decodes. See
    [Upload checks](security.md#upload-checks)."""
    retention_s: int = Field(86_400, ge=1)
    """The seconds that a job, its events and its files are kept after its end."""

    webhook_private: bool = False
    """`True` lets webhooks go to loopback, private and special addresses, on any port. See
    [Destinations](webhooks.md#destinations)."""
    webhook_ports: str = "80,443,8443"
    """The ports to which webhooks may go, separated by commas. Private addresses have no such limit."""
    webhook_hosts: str = ""
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

    #: The files that secrets were read from, by field.
    _files: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("vllm_args")
    @classmethod
    def _json_object(cls, text: str) -> str:
        try:
            args = json.loads(text)
        except ValueError as error:
            raise PydanticCustomError("json", "{why}", {"why": f"this is not JSON: {error}"}) from None
        if not isinstance(args, dict):
            raise PydanticCustomError("json", 'a JSON object is needed, such as {{"dtype": "float16"}}')
        return text

    @field_validator("video_sizes")
    @classmethod
    def _sizes(cls, text: str) -> str:
        for part in _split(text):
            ClipSize.parse(part)
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        for part in _split(text):
            ip_network(part)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, text: str) -> str:
        """Refuse patterns: one could admit an unforeseen page, together with the cookies of its visitors."""
        why = "{part} is not an exact origin such as https://app.example"
        return _check_parts(text, re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?").fullmatch, why)

    @field_validator("webhook_ports")
    @classmethod
    def _ports(cls, text: str) -> str:
        return _check_parts(text, _is_port, "{part} is not a port")

    @field_validator("webhook_hosts")
    @classmethod
    def _hosts(cls, text: str) -> str:
        why = "{part} is not a host such as hooks.example.com or *.example.com, in lower case"
        return _check_parts(text, re.compile(r"(\*\.)?[a-z0-9_.:-]*[a-z0-9_:-]").fullmatch, why)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read `STOKER_*` from `environ`, by default that of this process. An empty value counts as unset.

        A secret `X` without a value is read from the file that `STOKER_X_FILE` names.

        Raises `ConfigurationError`, whose message names the variable, if a value is not valid or a file
        cannot be read.
        """
        environ = os.environ if environ is None else environ
        values = {name: environ.get(_variable(name)) for name in cls.model_fields}
        secrets = [name for name, field in cls.model_fields.items() if not field.repr and not values[name]]
        files = {name: file for name in secrets if (file := environ.get(_file_variable(name)))}
        values |= {name: _read_secret(_file_variable(name), file) for name, file in files.items()}
        try:
            settings = cls.model_validate({name: value for name, value in values.items() if value})
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            variable = _file_variable(name) if name in files else _variable(name)
            raise ConfigurationError(f"{variable}: {first['msg']}") from None
        settings._files = files
        return settings

    def replace(self, **changes: object) -> Self:
        """Return a copy with those of the changes that are not None. Raises `ConfigurationError`."""
        kept = {name: str(value) for name, value in changes.items() if value is not None}
        return self.from_env(self.to_env() | {_variable(name): value for name, value in kept.items()})

    def to_env(self) -> dict[str, str]:
        """Return these settings as environment variables, for a child process.

        A secret that came from a file stays there, because other programs can read a process' environment.
        """
        values = self.model_dump(exclude_none=True, exclude=set(self._files))
        variables = {_variable(name): str(value) for name, value in values.items()}
        return variables | {_file_variable(name): file for name, file in self._files.items()}

    @property
    def caps(self) -> tuple[int, ...]:
        """The caps on what may wait and what an owner keeps, in the order of `refusal` in `account.lua`."""
        per_key = self.max_waiting_per_key, self.max_kept_jobs, self.max_kept_bytes, self.max_kept_file_bytes
        return self.max_waiting, *per_key

    @property
    def origins(self) -> list[str]:
        """The origins in `cors_origins`."""
        return _split(self.cors_origins)

    @property
    def webhook_port_list(self) -> list[int]:
        """The ports in `webhook_ports`."""
        return [int(port) for port in _split(self.webhook_ports)]

    @property
    def webhook_host_list(self) -> list[str]:
        """The hosts in `webhook_hosts`."""
        return _split(self.webhook_hosts)

    @property
    def proxy_networks(self) -> list[IPv4Network | IPv6Network]:
        """The networks in `trusted_proxies`."""
        return [ip_network(part) for part in _split(self.trusted_proxies)]

    @property
    def vllm_options(self) -> dict[str, Any]:
        """The arguments in `vllm_args`, by name."""
        return dict(json.loads(self.vllm_args))

    @property
    def clip_sizes(self) -> list[ClipSize]:
        """The sizes in `video_sizes`."""
        return [ClipSize.parse(part) for part in _split(self.video_sizes)]

    @property
    def home_dir(self) -> Path:
        """The absolute path of `home`."""
        return self.home.expanduser().absolute()

    @property
    def models_dir(self) -> Path:
        """The folder of fetched and converted models."""
        return self.home_dir / "models"

    @property
    def device_locks_dir(self) -> Path:
        """The folder of the device locks."""
        return (self.locks_dir or self.home_dir / "locks").expanduser().absolute()

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

    @property
    def redis_timeout_s(self) -> float:
        """How long a process waits for an answer of Redis, in seconds: a third of the lease, from 1 to 5.

        A process that gives up so early can connect again before its lease lapses.
        """
        return max(1.0, min(5.0, self.lease_ttl_s / 3))

    @property
    def limits(self) -> Limits:
        """The limits of an uploaded clip."""
        return Limits(self.max_pixels, self.max_frames, self.max_duration_s, self.max_streams)

    def model_name(self, kind: str) -> str:
        """Return the name of the configured model of this kind, which is the last part of its path.

        A known file extension is removed. Characters other than letters, digits, `_`, `.` and `-` become `-`.
        """
        model = self.chat_model if kind == "chat" else self.video_model
        if Path(model).name in ("", ".."):  # such as ".": use the name of the folder itself
            model = os.path.abspath(model)
        name = re.sub(r"\.(gguf|tflite|safetensors|pt)$", "", Path(model).name)
        return re.sub(r"[^A-Za-z0-9_.-]", "-", name)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _file_variable(name: str) -> str:
    return f"{_variable(name)}_FILE"


def _read_secret(variable: str, file: str) -> str:
    """Return the content of the file that `variable` names, without a line break at its end."""
    try:
        secret = Path(file).read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable}: {file} cannot be read: {error}") from None
    if not secret:
        raise ConfigurationError(f"{variable}: {file} is empty")
    return secret


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_parts(text: str, is_valid: Callable[[str], object], why: str) -> str:
    """Return the text if all its parts are valid. `why` is the error's message, with `{part}` in it."""
    for part in _split(text):
        if not is_valid(part):
            raise PydanticCustomError("part", why, {"part": part})
    return text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def child_env(settings: Settings) -> dict[str, str]:
    """Return the environment for a child process: that of this process, overridden by `settings`."""
    return dict(os.environ) | settings.to_env()


def set_env(**variables: str) -> None:
    """Set variables that libraries read when they are imported, such as `CUDA_VISIBLE_DEVICES`."""
    os.environ.update(variables)


def set_env_default(**variables: str) -> None:
    """Set the variables, except for those that the user has set."""
    set_env(**{name: value for name, value in variables.items() if name not in os.environ})


def visible_devices() -> str | None:
    """Return the user's `CUDA_VISIBLE_DEVICES`, the set of GPUs to choose from; None if it is unset."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")
