"""The contestants of `bench.peer`: the bare engine, `vllm serve` and the stack."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from bench.crowd import Figures
from bench.fleet import is_alive
from bench.peer_client import Load, PeerClient
from bench.processes import running_process
from tests.support.stack import eventually, free_port
from tests.support.vllm_cli import VLLM_PROGRAM
from webapi.cli.demo import running_stack
from webapi.local.log_files import tail
from worker.assets import resolve
from worker.chat.gguf import unpack_gguf
from worker.jobs.settings import Settings

__all__ = ["Contestants", "Measure", "flags", "model_folder"]

#: Time limit of a start, in which vLLM compiles the model.
START_S = 500.0
#: Lines of each log that are shown after a failure.
SHOWN_LINES = 40

#: Runs the chats of a load, and returns their figures.
Measure = Callable[[Load], Figures]


@dataclass(frozen=True, slots=True)
class Contestants:
    """The bare engine, `vllm serve` and the stack, with the same settings as far as they apply."""

    settings: Settings
    #: The model as a Hugging Face directory.
    model: Path
    #: vLLM's client, which measures the servers.
    client: PeerClient

    @contextmanager
    def engine(self) -> Iterator[Measure]:
        """Run the engine of a worker in the process of vLLM's client, with no HTTP between them."""
        log = self.settings.home_dir / "peer-engine.log"
        with shown_logs(log), PeerClient(log, self.settings) as client:
            yield partial(client.measure, "http://nowhere", "engine", self.model)

    @contextmanager
    def vllm(self, api_servers: int) -> Iterator[Measure]:
        """Run `vllm serve` with the settings' slots, context length and arguments of vLLM."""
        settings, port, log = self.settings, free_port(), self.settings.home_dir / "peer-vllm.log"
        own: dict[str, Any] = {"port": port, "served_model_name": "peer", "api_server_count": api_servers}
        own |= {"max_num_seqs": settings.slots, "max_model_len": settings.context_length}
        own |= {"dtype": "float32"} if settings.devices == "cpu" else {}  # as in the worker
        command = ["serve", str(self.model), *flags(own | dict(settings.vllm_args))]
        log.unlink(missing_ok=True)
        with (
            shown_logs(log),
            running_process([sys.executable, "-c", VLLM_PROGRAM, *command], settings, log) as server,
        ):

            def ready() -> bool:
                assert is_alive(server), "vllm serve has ended"
                try:
                    return bool(urlopen(f"http://127.0.0.1:{port}/health").status == 200)
                except (URLError, OSError):
                    return False

            eventually(ready, "vllm serve", START_S)
            yield partial(self.client.measure, f"http://127.0.0.1:{port}", "peer", self.model)

    @contextmanager
    def stoker(self) -> Iterator[Measure]:
        """Run `stoker up`."""
        log, logs = self.settings.home_dir / "peer-stoker.log", self.settings.home_dir / "logs"
        with (
            shown_logs(log, logs / "chat.log", logs / "web.log"),
            running_stack(self.settings, log, START_S) as stack,
        ):
            yield partial(self.client.measure, stack.url, self.settings.model_name("chat"), self.model)


def model_folder(settings: Settings) -> Path:
    """Return the model as a Hugging Face directory, the format that vLLM reads."""
    path = resolve(settings.models_dir, settings.chat_model)
    return unpack_gguf(path) if path.is_file() else path


def flags(values: Mapping[str, Any]) -> list[str]:
    """Return these arguments of vLLM's engine as options of its command line."""
    found = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{option}" if value else f"--no-{option}")
        else:
            found += [f"--{option}", value if isinstance(value, str) else json.dumps(value)]
    return found


@contextmanager
def shown_logs(*logs: Path) -> Iterator[None]:
    """Print the last lines of the logs if the block raises."""
    try:
        yield
    except Exception:
        for log in logs:
            if log.exists():
                print(f"--- {log}\n{tail(log, SHOWN_LINES)}", flush=True)
        raise
