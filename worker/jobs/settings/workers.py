"""The settings of workers."""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from worker.jobs.kinds import find_kind
from worker.jobs.limits import ClipSize
from worker.jobs.settings.area import Area, CommaSeparated

__all__ = ["Workers"]

#: What the name of a model may be, because it is part of the name of a queue.
NAME = r"^[A-Za-z0-9_.-]+$"


def _json_object(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        args = json.loads(value)
    except ValueError as error:
        raise PydanticCustomError("json", "{why}", {"why": f"this is not JSON: {error}"}) from None
    if not isinstance(args, dict):
        raise PydanticCustomError("json", 'a JSON object is needed, such as {"dtype": "float16"}')
    return args


def _adapters(value: object) -> object:
    """Return the paths by names of a text such as `sql=/adapters/sql,de=/adapters/de`."""
    if not isinstance(value, str):
        return value
    pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
    adapters = {name.strip(): path.strip() for name, _, path in pairs}
    if len(adapters) < len(pairs) or not all(adapters.values()):
        raise PydanticCustomError("lora", "each adapter needs its own name and a path: name=path,name=path")
    return adapters


def _adapters_text(adapters: dict[str, Path]) -> str:
    return ",".join(f"{name}={path}" for name, path in adapters.items())


def _size(value: object) -> ClipSize:
    return ClipSize.parse(str(value))


class Workers(Area):
    """The settings of workers."""

    model_config = ConfigDict(title="Workers")

    worker: str | None = None
    """The kind of job that this worker serves, one of `STOKER_KINDS`. `stoker worker` sets it."""
    devices: str = "auto"
    """The devices of this worker. `auto` takes the first GPU that no worker holds and that has enough free
    memory, and the CPU if the machine has no GPU. `spare` does the same but never takes the first GPU, and
    takes the CPU if no other one is free (`stoker up` gives this value to all workers but that of the first
    of `STOKER_KINDS`). `cpu` takes no GPU. A list such as `0` or `0,1` names GPUs by index or UUID. See
    [Devices](workers.md#devices)."""
    locks_dir: Path | None = None
    """The folder of the device locks, if it is not `locks` in `STOKER_HOME`. Users who share the GPUs of a
    machine need one folder that all of them can write to. See [Devices](workers.md#devices)."""
    device_free_bytes: int | None = Field(None, ge=0)
    """The memory, in bytes, that a GPU must have free to be chosen by `auto` or `spare`. If it is unset, half
    of the GPU's memory must be free."""
    device_wait_s: float = Field(0.0, ge=0, allow_inf_nan=True)
    """The seconds that `auto` waits for a GPU while other workers hold all of them. `inf` waits for ever."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """The engine of a chat worker: `transformers`, `vllm`, or `auto`, which takes vLLM if it is installed and
    the worker has leased a GPU. See [Chat engines](workers.md#chat-engines)."""
    vllm_args: Annotated[
        dict[str, Any], BeforeValidator(_json_object), PlainSerializer(json.dumps, when_used="json")
    ] = Field(default_factory=dict)
    """The arguments of vLLM's engine, as a JSON object."""
    lora: Annotated[
        dict[Annotated[str, Field(pattern=NAME)], Path],
        BeforeValidator(_adapters),
        PlainSerializer(_adapters_text, when_used="json"),
    ] = Field(default_factory=dict)
    """The LoRA adapters of the chat model, as `name=path,name=path`. Each one is a model of its own for
    requests. A path is a folder with `adapter_config.json`. Only the engine vLLM serves adapters. See [LoRA
    adapters](workers.md#lora-adapters)."""
    chat_model: str = "SmolLM2-135M-Instruct"
    """The chat model: the name of a default model, a Hugging Face directory, or a `.gguf` file. The API sends
    a chat that names no model to this model."""
    video_model: str = "selfie_segmentation"
    """The video model: the name of a model of Stoker, a class as `package.module:Class`, the name of an entry
    point of the group `stoker.frame_models`, a `.pt2` file, `spandrel:FILE.safetensors`, or a file of weights
    with the name of its model. The API sends a video that names no model to this model. See [Frame
    models](extending.md#frame-models)."""
    video_weights: Path | None = None
    """The file or folder of the video model's weights, if the model needs weights and does not name them."""
    video_name: str | None = Field(None, pattern=NAME)
    """The name by which requests ask for the video model. By default this is the name of the model, class,
    entry point or file."""
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
    tool_parser: str | None = Field(None, pattern=NAME)
    """The parser that finds calls of tools in the answers of the chat model. By default this is the format
    that the model's chat template uses, and `none` turns it off. See [Parsers](tools.md#parsers)."""
    reasoning_parser: str | None = Field(None, pattern=NAME)
    """The parser that finds the reasoning in the answers of the chat model. By default this is the format
    that the model's chat template uses, and `none` turns it off. See [Parsers](tools.md#parsers)."""
    video_slots: int | None = Field(None, ge=1)
    """The number of videos that run at once in one worker: while the model has a batch of one, the others are
    decoded and encoded. The default is 2 on a GPU and 1 on a CPU. See [Several videos at
    once](workers.md#several-videos-at-once)."""
    batch_size: int = Field(16, ge=1)
    """The number of frames in a batch of a video. The last, short batch of a clip is padded to it."""
    video_sizes: CommaSeparated[Annotated[ClipSize, BeforeValidator(_size)]] = (
        ClipSize(640, 360),
        ClipSize(1280, 720),
        ClipSize(1920, 1080),
    )
    """The clip sizes, in pixels and separated by commas, that a video worker on a GPU warms up for when it
    starts. For a clip of another size it warms up before the clip's first batch."""
    compile: bool = False
    """`True` (`--compile`) lets torch compile the video model. This needs a C++ compiler and makes the start
    half a minute longer."""
    segment_batches: int = Field(4, ge=1)
    """The number of batches in a segment of a video. After the loss of a worker, the segments that it had not
    completely encoded are computed again."""
    video_decoder: Literal["libav", "nvdec"] = "libav"
    """What decodes clips. `nvdec` lets the GPU of a video worker decode clips that are long enough. It does
    not notice damage inside frames, which `libav` does. See [Decoding](workers.md#decoding)."""
    encoders: int | None = Field(None, ge=1)
    """The number of segments that a video worker encodes at the same time. By default this is half of the
    number of CPU cores that the worker may use. See [Encoders](workers.md#encoders)."""
    video_help: bool = True
    """`False` keeps a video worker from helping with the clips of others, and from accepting help. See [One
    clip over several workers](workers.md#one-clip-over-several-workers)."""
    drain_s: float = Field(30.0, ge=0)
    """The seconds that a stopping worker may continue its jobs before it hands them over. See [Signals and
    draining](workers.md#signals-and-draining)."""

    @field_validator("worker")
    @classmethod
    def _served_kind(cls, kind: str | None, info: ValidationInfo) -> str | None:
        served = info.data.get("kinds", ())  # absent if it is not valid, which is the first error then
        if kind is not None and kind not in served:
            facts = {"kind": kind, "served": ",".join(served)}
            raise PydanticCustomError(
                "worker", "{kind} is not among the kinds that are served here (STOKER_KINDS={served})", facts
            )
        return kind

    def model(self, kind: str) -> str:
        """Return the configured model of this kind: a name or a path. Raises `ConfigurationError`."""
        return str(getattr(self, find_kind(kind).model_setting))

    def model_name(self, kind: str) -> str:
        """Return the name of the configured model of this kind.

        By default it is the last part of its path, without a known file extension, or the name of the class.
        Characters other than letters, digits, `_`, `.` and `-` become `-`. Raises `ConfigurationError` if
        there is no such kind.
        """
        if name := getattr(self, f"{kind}_name", None):
            return str(name)
        model = re.sub(r"^[\w.]+:", "", self.model(kind))  # the module of a class, or "spandrel:"
        if Path(model).name in ("", ".."):  # such as ".": use the name of the folder itself
            model = os.path.abspath(model)
        name = re.sub(r"\.(gguf|tflite|safetensors|pt2?)$", "", Path(model).name)
        return re.sub(r"[^A-Za-z0-9_.-]", "-", name)
