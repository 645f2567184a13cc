"""The stack beside `vllm serve`: the same model, GPU and client, which is vLLM's own `vllm bench serve`.

    python -m bench.peer [--at-once 1 64 256] [--servers vllm stoker] [--web-processes 4] [--cpu]

One server after the other, each alone on the device. Both take chats over `/v1/chat/completions`: 32 random
tokens in, 128 out, greedy, streamed. The table has tokens/s, and the median ms to the first token and for
each later one, as the client counts them.
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

from bench.processes import process
from tests.support.stack import eventually, free_port
from tests.support.vllm_cli import VLLM
from webapi.cli.demo import running_stack
from worker.assets import resolve
from worker.chat.gguf import unpack_gguf
from worker.jobs.settings import Settings

#: Chats to a client that is alone, and to each of many.
ALONE, EACH = 16, 4
START_S = 300.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where it is, and what it calls the model."""

    url: str
    model: str


def folder_of(settings: Settings) -> Path:
    """The model as a Hugging Face directory, which is what vLLM reads."""
    path = resolve(settings.models_dir, settings.chat_model)
    return unpack_gguf(path) if path.is_file() else path


@contextmanager
def vllm(settings: Settings) -> Iterator[Server]:
    port, folder = free_port(), folder_of(settings)
    own = ["--max-num-seqs", str(settings.slots), "--max-model-len", str(settings.context_length)]
    command = ["serve", str(folder), "--port", str(port), "--served-model-name", "peer", *own]
    with process([sys.executable, "-c", VLLM, *command], settings, settings.home_dir / "peer.log") as server:

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
    with running_stack(settings, settings.home_dir / "peer.log") as client:
        yield Server(client.url, settings.model_name("chat"))


def measured(server: Server, tokenizer: Path, at_once: int, report: Path) -> dict[str, float]:
    """What `vllm bench serve` says of so many clients; all of their chats must have had all their tokens."""
    chats = ALONE if at_once == 1 else EACH * at_once
    command = ["bench", "serve", "--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
    command += ["--base-url", server.url, "--model", server.model, "--tokenizer", str(tokenizer)]
    command += ["--dataset-name", "random", "--random-input-len", "32", "--random-output-len", "128"]
    command += ["--ignore-eos", "--temperature", "0", "--num-warmups", str(at_once)]
    command += ["--num-prompts", str(chats), "--max-concurrency", str(at_once)]
    saved = ["--save-result", "--result-dir", str(report.parent), "--result-filename", report.name]
    done = subprocess.run([sys.executable, "-c", VLLM, *command, *saved], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(report.read_text())
    assert found["total_output_tokens"] == 128 * chats, found
    return {name: found[name] for name in ("output_throughput", "median_ttft_ms", "median_tpot_ms")}


SERVERS: dict[str, Callable[[Settings], AbstractContextManager[Server]]] = {"vllm": vllm, "stoker": stoker}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--servers", nargs="+", default=list(SERVERS), choices=list(SERVERS))
    parser.add_argument("--web-processes", type=int, default=4)
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    own = {"slots": max(args.at_once), "web_processes": args.web_processes, "engine": "vllm"}
    settings = Settings.from_env().replace(**own, devices="cpu" if args.cpu else None)
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    tokenizer = folder_of(settings)
    print(f"{'':>8} {'at once':>8} {'tokens/s':>9} {'first token':>12} {'then each':>10}", flush=True)
    with TemporaryDirectory() as folder:
        for name in args.servers:
            with SERVERS[name](settings) as server:
                for count in args.at_once:
                    rate, first, each = measured(
                        server, tokenizer, count, Path(folder) / "report.json"
                    ).values()
                    print(f"{name:>8} {count:>8} {rate:>9.0f} {first:>9.0f} ms {each:>7.1f} ms", flush=True)


if __name__ == "__main__":
    main()
