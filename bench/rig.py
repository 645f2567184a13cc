"""What `bench.scale` measures: Redis, an API, workers on GPUs, and clients with their load."""

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from bench.contestants import model_folder
from bench.cpu_use import CpuUse, shares
from bench.crowd import Crowd, Load, busy_time, figures
from bench.dummy_model import make_dummy_model
from bench.fleet import Fleet
from bench.processes import running_process, scripted_settings
from tests.support.stack import eventually
from webapi.client import Client
from webapi.local.commands import web_argv
from worker.jobs.settings import Settings

__all__ = ["Rig", "running_rig"]

#: A limit of the API that no benchmark reaches.
NO_LIMIT = 10**6


@dataclass(frozen=True, slots=True)
class Rig:
    """The parts of a run. `load` is that of one worker."""

    settings: Settings
    api: psutil.Process
    fleet: Fleet
    crowd: Crowd
    load: Load

    def measure(self, label: str, model: str, clients: int, load: Load) -> float:
        """Run so many clients with this load, print their row of the table, and return the tokens/s."""
        with CpuUse(self._groups()) as cpu:
            answers = self.crowd.run_clients(clients, model, load)
        since, until = busy_time(answers, load.at_once)
        found = figures(answers, since, until)
        pairs = [f"{median:>9.1f} {high:>8.1f}" for median, high in found.pairs_ms]
        cores = shares(cpu.samples, since, until).items()
        used = ", ".join(f"{name} {share.busiest:.2f} / {share.total:.2f}" for name, share in cores)
        print(f"{label:>26} {found.tokens_s:>9.0f}{''.join(pairs)}  {used}", flush=True)
        return found.tokens_s

    def _groups(self) -> dict[str, Callable[[], Sequence[psutil.Process]]]:
        workers = [psutil.Process(process.pid) for process in self.fleet.processes]
        engines = [child for worker in workers for child in worker.children(recursive=True)]
        clients = [psutil.Process(child.pid) for child in multiprocessing.active_children() if child.pid]
        redis = [child for child in psutil.Process().children() if "valkey" in child.name()]
        return {
            "API": self.api.children,
            "Redis": lambda: redis,
            "workers": lambda: workers,
            "engines": lambda: engines,
            "clients": lambda: clients,
        }


@contextmanager
def running_rig(args: argparse.Namespace, clients: int) -> Iterator[Rig]:
    """Start Redis, the API and up to `clients` client processes, but no worker yet."""
    user = Settings.from_env()
    with scripted_settings(engine=args.engine, slots=args.at_once, web_processes=args.web_processes) as base:
        home, vllm_args = base.home_dir, dict(user.vllm_args)
        if args.model:
            model = model_folder(user.replace(chat_model=args.model))
        else:
            model = make_dummy_model(home / "llama-8b", model_folder(user))
            vllm_args["load_format"] = "dummy"
        settings = base.replace(
            chat_model=str(model),
            vllm_args=json.dumps(vllm_args),
            devices="auto",
            kinds="chat",
            max_waiting=NO_LIMIT,
            max_waiting_per_key=NO_LIMIT,
            max_open_streams_per_key=NO_LIMIT,
            max_connections_per_address=0,
        )
        with (
            running_process(web_argv(settings), settings, home / "web.log") as api,
            Crowd(clients, settings.url, model) as crowd,
            Fleet(settings) as fleet,
            Client(settings.url) as client,
        ):
            eventually(client.alive, "the API")
            load = Load(args.at_once, args.waves, args.tokens_in, args.tokens_out)
            yield Rig(settings, api, fleet, crowd, load)
