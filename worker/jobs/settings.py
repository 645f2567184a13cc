"""Everything that can be set from outside: the only reader (and writer) of the environment."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from worker.jobs.errors import ConfigurationError
from worker.jobs.limits import ClipSize, Limits

PREFIX = "STOKER_"


class Settings(BaseModel):
    """The settings of one process. Each field is read from `STOKER_<FIELD>`; units are in the names."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: State of `stoker up`: models, media, device locks, the embedded server's data.
    home: Path = Path("~/.stoker")
    #: Where clips, segments and results lie, as fsspec opens it: s3://bucket/path; unset, a folder in `home`.
    media_url: str | None = Field(None, repr=False, pattern=r"^[a-z][a-z0-9+.-]*://.")
    #: The Redis that holds the ledger and the queues; unset, `stoker up` starts an embedded Valkey.
    redis_url: str | None = Field(None, pattern=r"^(rediss?|unix)://")
    #: First part of every Redis key and channel, so that several Stokers can share one Redis.
    prefix: str = Field("stoker", pattern=r"^[A-Za-z0-9_.-]+$")
    #: Where the command line finds the API.
    url: str = "http://127.0.0.1:8000"
    #: The key that the command line sends.
    api_key: str | None = Field(None, repr=False, pattern=r"^[!-~]+$")
    #: Address the API binds to.
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    #: API processes; each holds any number of streams.
    web_processes: int = Field(1, ge=1)
    #: Whether the API trusts everyone, whatever keys there are.
    no_auth: bool = False
    #: Origins whose pages may use the API, separated by commas.
    cors_origins: str = ""
    #: How long a stream token is valid.
    token_s: int = Field(600, ge=1)

    #: What this worker serves; set by `stoker worker chat` and `stoker worker video`.
    worker: Literal["chat", "video"] | None = None
    #: `auto`, `cpu`, GPU indexes such as `0` or `0,1`, a GPU UUID, or `spare`: a free GPU but the first, else
    #: the CPU.
    devices: str = "auto"
    #: Memory that a GPU must have free to be chosen; unset, half of what it has.
    device_free_bytes: int | None = Field(None, ge=0)
    #: How long `auto` waits for a GPU while other workers hold them all; `inf`: for ever.
    device_wait_s: float = Field(0.0, ge=0)
    #: `auto`: vLLM where it is installed and a GPU was leased, else transformers.
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    #: Arguments of vLLM's engine, as a JSON object.
    vllm_args: str = "{}"
    #: A default model's name, a Hugging Face directory, or a .gguf file.
    chat_model: str = "SmolLM2-135M-Instruct"
    video_model: str = "selfie_segmentation"
    #: Chats that run at once in one worker.
    slots: int = Field(8, ge=1)
    #: Prompt and answer together, in tokens; the model's own limit holds too.
    context_length: int = Field(2048, ge=16)
    #: Frames in a batch; the last, short batch is padded to it.
    batch_size: int = Field(16, ge=1)
    #: Whether the short last batch of a clip is padded at all; without, what that saves can be measured.
    pad: bool = True
    #: Sizes of clips that a video worker on a GPU warms up for when it starts, separated by commas.
    video_sizes: str = "640x360,1280x720,1920x1080"
    #: Whether torch compiles the video model; it needs a C++ compiler then.
    compile: bool = False
    #: Batches in a segment of a video: what is in a finished segment is not done again.
    segment_batches: int = Field(4, ge=1)

    #: A worker silent for this long has lost its jobs.
    lease_ttl_s: float = Field(10.0, gt=0)
    max_attempts: int = Field(3, ge=1)
    #: How long a job may take from its first start on, unless it says so itself; then it fails.
    timeout_s: float = Field(3600.0, gt=0)
    #: How long a job may wait for its first start, unless it says so itself; then it fails.
    max_queue_s: float = Field(86_400.0, gt=0)
    #: How long a worker told to stop may go on with what it runs.
    drain_s: float = Field(30.0, ge=0)
    #: Jobs that may wait in one queue before submits get 429.
    max_waiting: int = Field(1000, ge=1)
    max_upload_bytes: int = Field(512 * 2**20, ge=1)
    #: Width times height of a clip.
    max_pixels: int = Field(3840 * 2160, ge=256)
    #: Frames, seconds and streams of a clip: what its container says of them, and then what it really has.
    max_frames: int = Field(100_000, ge=1)
    max_duration_s: float = Field(3600.0, gt=0)
    max_streams: int = Field(16, ge=1)
    #: Finished jobs, their events and their files are kept for this long.
    retention_s: int = Field(86_400, ge=1)
    #: Comment lines on an idle event stream, so that proxies keep it open.
    heartbeat_s: float = Field(15.0, gt=0)
    #: Whether webhooks may go to loopback and private addresses.
    webhook_private: bool = False
    #: Tries at a webhook, and how long the second waits for; each later one waits five times as long.
    webhook_attempts: int = Field(8, ge=1, le=100)
    webhook_backoff_s: float = Field(5.0, gt=0)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("vllm_args")
    @classmethod
    def _json_object(cls, text: str) -> str:
        try:
            args = json.loads(text)
        except ValueError as error:
            raise PydanticCustomError("json", "{why}", {"why": f"this is no JSON: {error}"}) from None
        if not isinstance(args, dict):
            raise PydanticCustomError("json", 'a JSON object is needed, such as {{"dtype": "float16"}}')
        return text

    @field_validator("video_sizes")
    @classmethod
    def _sizes(cls, text: str) -> str:
        for part in _split(text):
            ClipSize.parse(part)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, text: str) -> str:
        """A pattern would let in what nobody has thought of, with its visitors' cookies."""
        for origin in _split(text):
            if not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", origin):
                raise PydanticCustomError(
                    "origin",
                    "{origin} is not an exact origin such as https://app.example",
                    {"origin": origin},
                )
        return text

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read `STOKER_*`; an empty value counts as unset. Raises `ConfigurationError` with the variable."""
        environ = os.environ if environ is None else environ
        values = {name: environ.get(PREFIX + name.upper()) for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in values.items() if value})
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(f"{PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}") from None

    def replace(self, **changes: object) -> Self:
        """A copy with the changes that are not None, validated. Raises `ConfigurationError`."""
        kept = {name: str(value) for name, value in changes.items() if value is not None}
        return self.from_env(self.to_env() | {PREFIX + name.upper(): value for name, value in kept.items()})

    def to_env(self) -> dict[str, str]:
        """These settings as environment variables, for a child process."""
        values = self.model_dump(exclude_none=True)
        return {PREFIX + name.upper(): str(value) for name, value in values.items()}

    @property
    def origins(self) -> list[str]:
        """`cors_origins`, one by one."""
        return _split(self.cors_origins)

    @property
    def vllm_options(self) -> dict[str, Any]:
        """`vllm_args`, by name."""
        return dict(json.loads(self.vllm_args))

    @property
    def clip_sizes(self) -> list[ClipSize]:
        """`video_sizes`, one by one."""
        return [ClipSize.parse(part) for part in _split(self.video_sizes)]

    @property
    def home_dir(self) -> Path:
        """`home`, absolute."""
        return self.home.expanduser().absolute()

    @property
    def models_dir(self) -> Path:
        """Where fetched and converted models lie."""
        return self.home_dir / "models"

    @property
    def media_dir(self) -> Path:
        """Where jobs' files lie without a `media_url`, a folder a job; another Stoker has another prefix."""
        return self.home_dir / "media" / self.prefix

    @property
    def staging_dir(self) -> Path:
        """Where files of a `media_url` lie while a process of this machine works on them."""
        return self.home_dir / "staging" / self.prefix

    @property
    def broker_url(self) -> str:
        """The Redis to connect to."""
        return self.redis_url or "redis://127.0.0.1:6379/0"

    @property
    def limits(self) -> Limits:
        """What an uploaded clip may have at most."""
        return Limits(self.max_pixels, self.max_frames, self.max_duration_s, self.max_streams)

    def model_name(self, kind: str) -> str:
        """The name under which the kind's configured model is served: its path's last part."""
        model = self.chat_model if kind == "chat" else self.video_model
        if Path(model).name in ("", ".."):  # "." is the folder that it stands for
            model = os.path.abspath(model)
        name = re.sub(r"\.(gguf|tflite|safetensors|pt)$", "", Path(model).name)
        return re.sub(r"[^A-Za-z0-9_.-]", "-", name)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def child_env(settings: Settings) -> dict[str, str]:
    """The environment for a child process: ours, with `settings` on top."""
    return dict(os.environ) | settings.to_env()


def set_env(**variables: str) -> None:
    """Set variables that libraries read at import (`CUDA_VISIBLE_DEVICES`, `HF_HUB_OFFLINE`, …)."""
    os.environ.update(variables)


def set_env_default(**variables: str) -> None:
    """Set those of these variables that the user has not set."""
    set_env(**{name: value for name, value in variables.items() if name not in os.environ})


def visible_devices() -> str | None:
    """What the user already put in `CUDA_VISIBLE_DEVICES`: the set to choose from."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")
