"""Videos on a CUDA device: the same picture, steady batches, steady memory. With -s it prints the figures."""

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from tests.gpu.ballast import take_all
from tests.support.assets import asset
from worker.devices.gpus import list_gpus
from worker.jobs.errors import OutOfMemory
from worker.jobs.limits import ClipSize
from worker.process.lifecycle import SWITCH_S
from worker.video.inference.device_thread import DeviceThread
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, VideoRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from worker.video.inference.composite import Effect

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not list_gpus(), reason="no CUDA device here"),
    pytest.mark.filterwarnings("default"),  # torch warns of TF32, and of its own code
]

CARPHONE, BUNNY = "carphone_pristine.mp4", "bigbuckbunny.mp4"
#: Both clips end in a short batch: 120 = 7·16 + 8 and 132 = 8·16 + 4 frames.
CASES: "list[tuple[str, Effect]]" = [(CARPHONE, "matte"), (BUNNY, "background"), (BUNNY, "blur")]
#: How much slower than the median a batch may be.
SLOWEST = 1.5
ROUNDS = 3


@dataclass
class Made:
    """A clip, its batches, and where the result lies."""

    batches: list[BatchDone]
    target: Path

    @property
    def ms(self) -> list[float]:
        return [batch.seconds * 1000 for batch in self.batches]

    @property
    def reserved(self) -> list[int]:
        return [batch.memory.after.reserved >> 20 for batch in self.batches]

    def pictures(self) -> "NDArray[np.int64]":
        with av.open(self.target) as container:
            return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]).astype(int)

    def grew(self) -> bool:
        levels = {(b.memory.before.reserved, b.memory.peak_reserved) for b in self.batches}
        return len({level for pair in levels for level in pair}) > 1


Worker = Callable[..., Made]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts video workers: pipelines, each in a thread for which cuDNN has learned nothing yet."""
    with ExitStack() as stack:
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SWITCH_S)
        yield partial(video_worker, stack, count(), tmp_path)


def video_worker(
    stack: ExitStack, numbers: Iterator[int], folder: Path, device: str = "cuda", **how: Any
) -> Worker:
    thread = DeviceThread("video")
    stack.callback(thread.stop)
    pipeline = VideoPipeline(asset("selfie_segmentation.tflite"), device=device, **how)
    thread.call(pipeline.load)
    stack.callback(thread.call, pipeline.close)

    def make(clip: str, effect: "Effect", on_batch: Callable[[BatchDone], None] = lambda batch: None) -> Made:
        place = folder / str(next(numbers))
        place.mkdir()
        batches: list[BatchDone] = []

        def report(batch: BatchDone) -> None:
            batches.append(batch)
            on_batch(batch)

        request = VideoRequest(asset(clip), place / "out.mp4", place / "work", effect)
        thread.call(partial(pipeline.run, request, on_batch=report, canceled=lambda: False))
        return Made(batches, request.target)

    return make


def show(what: str, values: list[float], reserved: list[int]) -> float:
    """Print the batches' times; by what factor the slowest is above the median."""
    factor = max(values) / statistics.median(values)
    times = " ".join(f"{value:.2f}" for value in values)
    print(f"\n{what}: {times} ms; slowest/median {factor:.2f}, last/median", end=" ")
    print(f"{values[-1] / statistics.median(values):.2f}; reserved {min(reserved)}..{max(reserved)} MiB")
    return factor


def pictures_of(clip: str, number: int) -> "Tensor":
    import torch

    with av.open(asset(clip)) as container:
        frames = container.decode(video=0)
        return torch.from_numpy(np.stack([next(frames).to_ndarray(format="rgb24") for _ in range(number)]))


def test_the_matte_is_within_two_thousandths_of_the_cpus() -> None:
    """And TF32, which torch would use for convolutions, would not be; that is printed only."""
    import torch

    from worker.video.models.selfie import SelfieSegmentation

    weights = asset("selfie_segmentation.tflite")
    cpu, cuda = (SelfieSegmentation.load(weights, device) for device in ("cpu", "cuda"))
    for clip in (CARPHONE, BUNNY):
        frames = pictures_of(clip, 16)
        expected = cpu(frames, 16)
        worst = float((cuda(frames.cuda(), 16).cpu() - expected).abs().max())
        torch.backends.cudnn.allow_tf32 = True
        tf32 = float((cuda(frames.cuda(), 16).cpu() - expected).abs().max())
        torch.backends.cudnn.allow_tf32 = False
        print(f"\n{clip}: the matte is {worst:.1e} off at most; with TF32 {tf32:.1e}")
        assert worst < 2e-3


def test_a_video_is_the_same_picture_as_on_the_cpu(worker: Callable[..., Worker]) -> None:
    pictures = {}
    for device, source in (("cuda", "cuda"), ("cpu", "rss")):
        made = worker(device)(CARPHONE, "matte")
        assert [(b.frames, b.padded) for b in made.batches] == [(16, 0)] * 7 + [(8, 8)]
        assert {batch.memory.source for batch in made.batches} == {source}
        pictures[device] = made.pictures()
    assert np.abs(pictures["cuda"] - pictures["cpu"]).mean() < 0.5


def test_no_batch_is_slow_and_none_needs_more_memory(worker: Callable[..., Worker]) -> None:
    """Each round is a worker that has just started and has seen none of these sizes.

    What a cold kernel costs it costs in every round; what else the machine does it does in one.
    """
    times: dict[tuple[str, str], list[list[float]]] = {}
    for n in range(ROUNDS):
        make = worker()
        for clip, effect in CASES:
            made = make(clip, effect)
            show(f"round {n}, {clip}, {effect}", made.ms, made.reserved)
            assert not made.grew()
            times.setdefault((clip, effect), []).append(made.ms)
        for clip, effect in CASES:  # once more: the others have had the memory meanwhile
            assert not make(clip, effect).grew()
    for case, rounds in times.items():
        usual = [statistics.median(batch) for batch in zip(*rounds, strict=True)]
        assert show(f"median of rounds, {', '.join(case)}", usual, [0]) <= SLOWEST


def test_a_size_in_the_settings_is_warm_from_the_start(worker: Callable[..., Worker]) -> None:
    make = worker(sizes=[ClipSize(1280, 720)])
    first, second = make(BUNNY, "blur"), make(BUNNY, "blur")
    show("the first clip of a worker", first.ms, first.reserved)
    assert not first.grew()
    assert first.reserved == second.reserved


def test_without_padding_the_result_is_the_same_and_the_last_batch_shows(
    worker: Callable[..., Worker],
) -> None:
    """What it costs is printed only."""
    made = {}
    for pad in (True, False):
        made[pad] = worker(pad=pad)(CARPHONE, "matte")
        show(f"padding {pad}", made[pad].ms, made[pad].reserved)
    assert [(b.frames, b.padded) for b in made[False].batches] == [(16, 0)] * 7 + [(8, 0)]
    assert np.abs(made[True].pictures() - made[False].pictures()).mean() < 0.5


@pytest.mark.skipif(not any(map(which, ("cc", "gcc", "clang"))), reason="no C compiler here")
def test_a_compiled_model_makes_the_same_picture_in_steady_batches(
    worker: Callable[..., Worker],
) -> None:
    import torch

    make = worker(compiled=True)
    with torch.compiler.set_stance("fail_on_recompile"):
        rounds = [make(BUNNY, "background") for _ in range(ROUNDS)]
    for made in rounds:
        show("compiled", made.ms, made.reserved)
        assert not made.grew()
    usual = [statistics.median(batch) for batch in zip(*(made.ms for made in rounds), strict=True)]
    assert show("compiled, median of rounds", usual, rounds[0].reserved) <= SLOWEST
    plain = worker()(BUNNY, "background")
    show("not compiled", plain.ms, plain.reserved)
    assert np.abs(rounds[0].pictures() - plain.pictures()).mean() < 0.5


@pytest.fixture
def ballast() -> "Iterator[list[Tensor]]":
    """Room for everything that is free on the device."""
    import torch

    pieces: list[Tensor] = []
    yield pieces
    pieces.clear()
    torch.cuda.empty_cache()


def test_a_gpu_that_fills_up_ends_one_video_and_not_the_next(
    worker: Callable[..., Worker], ballast: "list[Tensor]"
) -> None:
    make = worker()

    def fill(batch: BatchDone) -> None:
        if batch.index == 2:
            take_all(ballast)

    with pytest.raises(OutOfMemory):
        make(BUNNY, "blur", fill)
    ballast.clear()
    made = make(BUNNY, "blur")
    assert len(made.batches) == 9
    assert not made.grew()


def test_results_come_in_two_pinned_buffers_in_turn() -> None:
    """The encoder reads one while the device fills the other."""
    from worker.video.inference.model_runner import ModelRunner
    from worker.video.models.selfie import SelfieSegmentation

    stage = ModelRunner(SelfieSegmentation.load(asset("selfie_segmentation.tflite"), "cuda"), "cuda", 2)
    scene = stage.scene("background", (9, 9, 9), 48, 64)
    frames = stage.buffer((2, 48, 64, 3))
    assert all(buffer.is_pinned() for buffer in stage._buffers)
    seen = []
    for shade in (0, 100, 200):
        frames[:] = shade
        seen.append(scene(frames, 2))
        if shade == 100:
            first = seen[0].copy()
    assert np.shares_memory(seen[0], seen[2])
    assert not np.shares_memory(seen[0], seen[1])
    assert first.max() <= 9
    assert {int(frame.max()) for frame in seen[1]} <= set(range(9, 101))
