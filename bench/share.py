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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av

from bench.fleet import Fleet
from bench.processes import running_process, scripted_settings
from tests.support.stack import eventually
from tests.support.video.clips import gradient, make_clip
from webapi.client import Client
from webapi.local.commands import web_argv
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings

FRAMES = 4000
MIB = 2**20
#: Time limit for a clip.
CLIP_S = 900.0


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
            with Fleet(settings, "video") as fleet:
                fleet.start([settings] * max(counts))
                for count in sorted(counts, reverse=True):
                    fleet.keep(count)
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
            measure(settings, clip, args.workers, args.rounds)


if __name__ == "__main__":
    main()
