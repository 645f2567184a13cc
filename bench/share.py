"""Measure one clip over several video workers.

    python -m bench.share [--workers 1 2 4] [--rounds 3] [--model MODEL] [--clip CLIP] [--repeat 10]
                          [--device cuda]

By default the model takes 50 ms for a batch of 4 frames and no CPU, so the workers do not compete for
cores. The clip has 4000 small frames. `--model` takes another model, such as esrgan-slim-x2, and `--clip`
another clip, which is played `--repeat` times. With `--device cuda` each worker leases a GPU.

In each round all workers start, and then workers stop until the next number is left. The rate of a round
is that from the job's start to its end. The table has the median of the rounds. After it come, for each
device, the largest memory in the reports of the last job, and by how much reserved memory has grown after
the first batch.
"""

import argparse
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from bench.processes import running_process, scripted_settings
from tests.support.stack import eventually
from tests.support.video.clips import gradient, make_clip
from webapi.client import Client
from webapi.local.commands import web_argv, worker_argv
from webapi.local.supervisor import spawn
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings, child_env

FRAMES = 4000
MIB = 2**20
#: Time limits for the start of all workers, and for a clip.
START_S, CLIP_S = 300.0, 900.0


def repeat(clip: Path, times: int, target: Path) -> Path:
    """Write the pictures of the clip so many times into one file, without a new encoding."""
    with av.open(clip) as source, av.open(target, "w") as output:
        video = source.streams.video[0]
        stream = output.add_stream_from_template(video)
        offset = 0
        for _ in range(times):
            source.seek(0)
            packets = [packet for packet in source.demux(video) if packet.dts is not None]
            for packet in packets:
                packet.pts, packet.dts = (packet.pts or 0) + offset, (packet.dts or 0) + offset
                packet.stream = stream
                output.mux(packet)
            offset = max((packet.pts or 0) + (packet.duration or 0) for packet in packets)
    return target


class Workers:
    """Video workers that start together."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._registry = Registry(RedisStore(settings))
        self._processes: list[subprocess.Popen[bytes]] = []
        with (settings.home_dir / "video.log").open("ab") as log:
            for _ in range(count):
                self._processes.append(spawn(worker_argv("video", settings), child_env(settings), log))
        eventually(lambda: self._ready() == count, "ready workers", START_S)

    def keep(self, count: int) -> None:
        """Stop workers until so many are left."""
        stopped, self._processes = self._processes[count:], self._processes[:count]
        for process in stopped:
            process.terminate()
        for process in stopped:
            process.wait()

    def _ready(self) -> int:
        assert all(process.poll() is None for process in self._processes), "a worker has ended"
        pids = {process.pid for process in self._processes}
        return sum(card.pid in pids and card.state == "ready" for card in self._registry.workers())


@contextmanager
def started(settings: Settings, count: int) -> Iterator[Workers]:
    """Yield so many workers, which stop at the end."""
    workers = Workers(settings, count)
    try:
        yield workers
    finally:
        workers.keep(0)


def rate(client: Client, ledger: Ledger, clip: Path) -> tuple[float, str]:
    """Run one job. Return its frames per second, and its id."""
    job_id = client.submit_video(clip)["id"]
    eventually(lambda: ledger.get(job_id).terminal, "the end of the clip", CLIP_S)
    record = ledger.get(job_id)
    assert record.state == "succeeded", record.error
    assert record.finished_at is not None
    assert record.started_at is not None
    frames = (record.usage or {})["frames"]
    return frames / (record.finished_at - record.started_at), job_id


def memory_rows(ledger: Ledger, job_id: str) -> Iterator[str]:
    """Yield a line for each device that has run batches of the job."""
    devices: dict[str, list[dict[str, Any]]] = {}
    for event in ledger.events(job_id):
        if event.type == "batch":
            name = f"{event.data['worker']} on {event.data['device']}"
            devices.setdefault(name, []).append(event.data["memory"])
    for name, reports in devices.items():
        kinds = ("allocated", "reserved")
        peaks = [max(report[f"peak_{kind}"] for report in reports) / MIB for kind in kinds]
        grown = (reports[-1]["after"]["reserved"] - reports[0]["after"]["reserved"]) / MIB
        yield (
            f"{name}: {len(reports)} batches, peak allocated {peaks[0]:.0f} MiB, "
            f"peak reserved {peaks[1]:.0f} MiB, reserved memory grew by {grown:.0f} MiB after the first batch"
        )


def measure(settings: Settings, clip: Path, counts: Sequence[int], rounds: int) -> None:
    """Print the rates of so many rounds, and the reports of the last job with the most workers."""
    ledger, rates, shared = Ledger(RedisStore(settings)), dict[int, list[float]](), ""
    with Client(settings.url) as client:
        for _ in range(rounds):
            with started(settings, max(counts)) as workers:
                for count in sorted(counts, reverse=True):
                    workers.keep(count)
                    fps, job_id = rate(client, ledger, clip)
                    rates.setdefault(count, []).append(fps)
                    shared = job_id if count == max(counts) else shared
                    print(f"{count} workers: {fps:.1f} frames/s", flush=True)
    one = statistics.median(rates[min(counts)])
    for count in sorted(counts):
        fps = statistics.median(rates[count])
        print(f"median, {count} workers: {fps:8.1f} frames/s, {fps / one:.2f} times {min(counts)}")
    for row in memory_rows(ledger, shared):
        print(row)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="bench.paced_model:PacedModel")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--batch-size", type=int, help="frames in a batch; by default 4 without --model")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = parser.parse_args()
    user = Settings.from_env()
    devices = "auto" if args.device == "cuda" else "cpu"
    changes: dict[str, object] = {
        "worker": "video",
        "devices": devices,
        "kinds": "video",
        "video_model": args.model,
    }
    with scripted_settings() as base:
        paced = args.model == parser.get_default("model")
        if size := args.batch_size or (4 if paced else None):
            changes["batch_size"] = size
        settings, home = base.replace(**changes), base.home_dir
        (home / "models").symlink_to(user.models_dir)
        if args.clip:
            clip = repeat(args.clip, args.repeat, home / "clip.mp4")
        else:
            clip = make_clip(home / "clip.mp4", [gradient(i) for i in range(FRAMES)])
        with running_process(web_argv(settings), settings, home / "web.log"), Client(settings.url) as client:
            eventually(client.alive, "the API")
            try:
                measure(settings, clip, args.workers, args.rounds)
            except BaseException:
                log = home / "video.log"
                print(log.read_text("utf-8")[-4000:] if log.exists() else "")
                raise


if __name__ == "__main__":
    main()
