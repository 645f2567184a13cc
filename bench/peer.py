"""Compare the stack with `vllm serve`: the same model and GPU, and vLLM's own client `vllm bench serve`.

    python -m bench.peer [--at-once 1 64 256] [--servers vllm stoker] [--web-processes 4] [--cpu]

The servers run one after the other, each alone on the device. Both take chats over `/v1/chat/completions`: 32
random tokens in, 128 out, greedy, streamed. The table has tokens/s, and the median ms to the first token and
for each later one, as the client counts them.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

from bench.processes import running_process
from tests.support.stack import eventually, free_port
from tests.support.vllm_cli import VLLM_PROGRAM
from webapi.cli.demo import running_stack
from worker.assets import resolve
from worker.chat.gguf import unpack_gguf
from worker.jobs.settings import Settings

#: Number of chats if there is one client, and chats per client if there are many.
CHATS_OF_ONE, CHATS_PER_CLIENT = 16, 4
START_S = 300.0


@dataclass(frozen=True, slots=True)
class Server:
    """The address of a server, and its name for the model."""

    url: str
    model: str


def model_folder(settings: Settings) -> Path:
    """Return the model as a Hugging Face directory, the format that vLLM reads."""
    path = resolve(settings.models_dir, settings.chat_model)
    return unpack_gguf(path) if path.is_file() else path


@contextmanager
def vllm(settings: Settings) -> Iterator[Server]:
    """Run `vllm serve` with the settings' slots and context length."""
    port, folder = free_port(), model_folder(settings)
    own = ["--max-num-seqs", str(settings.slots), "--max-model-len", str(settings.context_length)]
    command = ["serve", str(folder), "--port", str(port), "--served-model-name", "peer", *own]
    argv = [sys.executable, "-c", VLLM_PROGRAM, *command]
    with running_process(argv, settings, settings.home_dir / "peer.log") as server:

        def ready() -> bool:
            assert server.is_running(), "vllm serve has ended; see peer.log"
            try:
                return bool(urlopen(f"http://127.0.0.1:{port}/health").status == 200)
            except (URLError, OSError):
                return False

        eventually(ready, "vllm serve", START_S)
        yield Server(f"http://127.0.0.1:{port}", "peer")


@contextmanager
def stoker(settings: Settings) -> Iterator[Server]:
    """Run `stoker up`."""
    with running_stack(settings, settings.home_dir / "peer.log") as client:
        yield Server(client.url, settings.model_name("chat"))


def measure(server: Server, tokenizer: Path, at_once: int, report: Path) -> dict[str, float]:
    """Run `vllm bench serve` with this many clients, and return the figures of its report.

    Every chat must have received all its tokens.
    """
    chats = CHATS_OF_ONE if at_once == 1 else CHATS_PER_CLIENT * at_once
    command = ["bench", "serve", "--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
    command += ["--base-url", server.url, "--model", server.model, "--tokenizer", str(tokenizer)]
    command += ["--dataset-name", "random", "--random-input-len", "32", "--random-output-len", "128"]
    command += ["--ignore-eos", "--temperature", "0", "--num-warmups", str(at_once)]
    command += ["--num-prompts", str(chats), "--max-concurrency", str(at_once)]
    command += ["--save-result", "--result-dir", str(report.parent), "--result-filename", report.name]
    done = subprocess.run([sys.executable, "-c", VLLM_PROGRAM, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(report.read_text("utf-8"))
    assert found["total_output_tokens"] == 128 * chats, found
    return {name: found[name] for name in ("output_throughput", "median_ttft_ms", "median_tpot_ms")}


SERVERS: dict[str, Callable[[Settings], AbstractContextManager[Server]]] = {"vllm": vllm, "stoker": stoker}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 64, 256], help="numbers of clients")
    parser.add_argument("--servers", nargs="+", default=list(SERVERS), choices=list(SERVERS))
    parser.add_argument("--web-processes", type=int, default=4, help="API processes of the stack")
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    own = {"slots": max(args.at_once), "web_processes": args.web_processes, "engine": "vllm"}
    settings = Settings.from_env().replace(**own, devices="cpu" if args.cpu else None)
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    tokenizer = model_folder(settings)
    print(f"{'':>8} {'at once':>8} {'tokens/s':>9} {'first token':>12} {'then each':>10}", flush=True)
    with TemporaryDirectory() as folder:
        for name in args.servers:
            with SERVERS[name](settings) as server:
                for at_once in args.at_once:
                    figures = measure(server, tokenizer, at_once, Path(folder) / "report.json")
                    rate, first, each = figures.values()
                    print(f"{name:>8} {at_once:>8} {rate:>9.0f} {first:>9.0f} ms {each:>7.1f} ms", flush=True)


if __name__ == "__main__":
    main()
