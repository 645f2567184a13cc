"""Device leases on real GPUs, and what a killed worker leaves behind. Skipped without a GPU."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.assets import asset
from tests.support.chat.tiny_models import even_model
from tests.support.stack import eventually
from webapi.local.commands import worker_argv
from webapi.local.log_files import tail
from webapi.local.supervisor import spawn
from worker.devices.gpus import GIB, Gpu, find, list_gpus
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings, child_env

GPUS = list_gpus()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not GPUS, reason="no CUDA device here"),
]
two_gpus = pytest.mark.skipif(len(GPUS) < 2, reason="this needs two CUDA devices, and there is one")

READY_S, GONE_S = 200.0, 10.0
#: How far two readings of an idle GPU's used memory may differ, in bytes.
NOISE = 64 * 2**20

#: Leases the devices `argv[1]`, prints whether torch sees exactly these, and holds them until it is killed.
LEASE = """
import logging, os, sys
from pathlib import Path
from worker.devices.lease import lease
from worker.devices.gpus import list_gpus
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
held = lease(sys.argv[1], Path(sys.argv[2]), wait_s=float(sys.argv[3]))
assert "torch" not in sys.modules
import torch
assert not torch.cuda.is_initialized()
users = [user for gpu in list_gpus() for user in gpu.users]
assert not any(user.startswith(f"pid {os.getpid()} ") for user in users), "a context before its time"
uuids = [f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(torch.cuda.device_count())]
print("pinned", ",".join(uuids) == held.label, held.label, flush=True)
sys.stdin.read()
"""

#: Allocates `argv[1]` bytes on the first visible GPU, and holds them until it is killed.
FILL = """
import sys, torch
ballast = torch.empty(int(sys.argv[1]), dtype=torch.uint8, device="cuda")
print("full", flush=True)
sys.stdin.read()
"""


@contextmanager
def program(source: str, *arguments: object, visible: str) -> "Iterator[subprocess.Popen[str]]":
    """Run Python code in a process that sees only these GPUs, and kill it after the block."""
    command = [sys.executable, "-u", "-c", source, *map(str, arguments)]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": visible}
    process = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def current(gpu: Gpu) -> Gpu:
    """Return a new reading of the GPU."""
    reading = find(list_gpus(), gpu.uuid)
    assert reading is not None
    return reading


def used_bytes(gpus: Sequence[Gpu]) -> int:
    """Return how much memory of all these GPUs is in use at this moment."""
    return sum(gpu.total - current(gpu).free for gpu in gpus)


def test_lease_pins_process_before_it_has_cuda_context(tmp_path: Path) -> None:
    first = GPUS[0].uuid
    with program(LEASE, "auto", tmp_path, 15, visible=first) as worker:
        assert read_line(worker) == f"pinned True {first}"
    # SIGKILL released the lease.
    with program(LEASE, GPUS[0].index, tmp_path, 15, visible=first[:12]) as worker:
        assert read_line(worker) == f"pinned True {first}"


def test_lease_skips_full_gpu_and_waits_for_its_memory(tmp_path: Path) -> None:
    gpu = GPUS[0]
    with program(FILL, gpu.total * 6 // 10, visible=gpu.uuid) as filler:
        assert read_line(filler) == "full"
        with program(LEASE, "auto", tmp_path, 0, visible=gpu.uuid) as refused:
            skipped = read_line(refused)
            assert refused.wait(60) == 1
        reading = current(gpu)
        assert f"GPU {gpu.index} has {reading.free / GIB:.1f} of {gpu.total / GIB:.1f} GiB free" in skipped
        # Some containers hide the processes.
        if any(f"pid {filler.pid} " in user for user in reading.users):
            assert f"pid {filler.pid} " in skipped
        with program(LEASE, "auto", tmp_path, 60, visible=gpu.uuid) as waiting:
            assert read_line(waiting).startswith("skipped: ")
            filler.kill()
            assert read_line(waiting) == f"pinned True {gpu.uuid}"
    sys.stdout.write(f"\n{skipped}\n")


class WorkerProcess:
    """A real worker and its descendants. All of them have the worker's home in their environment."""

    def __init__(self, settings: Settings, kind: str, name: str = "worker") -> None:
        self.settings = settings.replace(worker=kind)
        self.log = settings.home_dir / f"{name}.log"
        if not settings.models_dir.exists():
            settings.models_dir.symlink_to(asset("SmolLM2-135M-Instruct.Q4_1.gguf").parent)
        with self.log.open("wb") as output:
            self.process = spawn(worker_argv(kind, self.settings), child_env(self.settings), output)

    def until_ready(self) -> str:
        """Wait until the worker is ready, and return its device."""
        registry = Registry(RedisStore(self.settings))

        def device() -> str:
            assert self.process.poll() is None, tail(self.log, 30)
            cards = [card for card in registry.workers() if card.pid == self.process.pid]
            return next((card.device for card in cards if card.state == "ready"), "")

        return eventually(device, "a ready worker", READY_S)

    def all_pids(self) -> list[int]:
        """Return the pids of the worker, of its reaper, and of all processes that they have started."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._has(pid)]

    def forks(self) -> list[int]:
        """Return the pids of the descendants that were forked and have not called exec."""
        mine = self._read(self.process.pid, "cmdline")
        return [
            pid for pid in self.all_pids() if self._read(pid, "cmdline") == mine and pid != self.process.pid
        ]

    def _has(self, pid: int) -> bool:
        return f"STOKER_HOME={self.settings.home}".encode() in self._read(pid, "environ").split(b"\0")

    def _read(self, pid: int, what: str) -> bytes:
        try:
            return Path(f"/proc/{pid}/{what}").read_bytes()
        except OSError:  # the process has ended
            return b""

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize(
    ("engine", "when", "count"),
    [
        ("transformers", "ready", 1),
        ("vllm", "loading", 1),
        ("vllm", "ready", 1),
        pytest.param("vllm", "ready", 2, marks=two_gpus),
    ],
)
def test_killed_chat_worker_leaves_no_process_and_no_memory(
    settings: Settings, tmp_path: Path, engine: str, when: str, count: int
) -> None:
    if engine == "vllm" and find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    gpus = GPUS[:count]
    eventually(lambda: all(current(gpu).free > gpu.total // 2 for gpu in gpus), "the memory of earlier tests")
    before = used_bytes(gpus)
    settings = settings.replace(devices=",".join(gpu.uuid for gpu in gpus), engine=engine)
    if engine == "vllm":
        settings = settings.replace(vllm_args='{"enforce_eager": true, "gpu_memory_utilization": 0.3}')
    if count > 1:
        settings = settings.replace(chat_model=str(even_model(tmp_path / "even")))
    worker = WorkerProcess(settings, "chat")
    try:
        if when == "ready":
            worker.until_ready()
        else:
            eventually(lambda: used_bytes(gpus) > before + 4 * NOISE, "an engine that is loading", READY_S)
        held, processes = used_bytes(gpus) - before, len(worker.all_pids())
        eventually(lambda: not worker.forks(), "an exec by all that was started", GONE_S)
        worker.kill()
        since = time.monotonic()
        eventually(lambda: not worker.all_pids(), "the end of all processes", GONE_S)
        ended_s = time.monotonic() - since
        eventually(lambda: used_bytes(gpus) <= before + count * NOISE, "the memory", GONE_S - ended_s)
        freed_s = time.monotonic() - since
    finally:
        worker.kill()
    sys.stdout.write(
        f"\n{engine} on {count}, killed while {when}: {processes} processes gone after {ended_s:.1f} s,"
        f" {held / 2**20:.0f} MiB free after {freed_s:.1f} s\n{tail(worker.log, 1)}\n"
    )


@two_gpus
def test_two_workers_lease_two_gpus_and_third_names_their_holders(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.replace(devices="auto")
    pair = GPUS[:2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(gpu.uuid for gpu in pair))
    workers = [WorkerProcess(settings, "video", name) for name in ("a", "b")]
    try:
        assert {worker.until_ready() for worker in workers} == {gpu.uuid for gpu in pair}
        third = WorkerProcess(settings, "video", "third")
        assert third.process.wait(60) == 1
        log_tail = tail(third.log, 5)
        assert all(f"is held by pid {worker.process.pid} on " in log_tail for worker in workers)
        workers[0].kill()
        workers[0] = WorkerProcess(settings, "video", "fourth")
        assert workers[0].until_ready() in [gpu.uuid for gpu in pair]
    finally:
        for worker in workers:
            worker.kill()
    sys.stdout.write(f"\n{log_tail}\n")


@two_gpus
def test_lease_pins_named_gpus_in_order(tmp_path: Path) -> None:
    first, second = (gpu.uuid for gpu in GPUS[:2])
    names = f"{GPUS[1].index},{GPUS[0].index}"
    with program(LEASE, names, tmp_path, 15, visible=f"{first},{second}") as worker:
        assert read_line(worker) == f"pinned True {second},{first}"
