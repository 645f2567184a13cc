"""Videos on a CUDA device: equal pictures, steady times and memory. With -s it prints the figures."""

import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pytest

from tests.gpu.ballast import fill_device
from tests.support.assets import asset
from tests.support.video.pipeline import selfie_pipeline
from worker.devices.gpus import list_gpus
from worker.jobs.errors import OutOfMemory
from worker.jobs.limits import ClipSize
from worker.process.lifecycle import SWITCH_S
from worker.video.request import BatchDone, VideoRequest
from worker.video.stages import Stages

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from worker.video.models.selfie_segmentation.composite import Effect

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not list_gpus(), reason="no CUDA device here"),
    pytest.mark.filterwarnings("default"),  # torch warns of TF32, and of its own code
]

CARPHONE, BUNNY = "carphone_pristine.mp4", "bigbuckbunny.mp4"
#: Both clips end with a short batch: 120 = 7·16 + 8 and 132 = 8·16 + 4 frames.
CASES: "list[tuple[str, Effect]]" = [(CARPHONE, "matte"), (BUNNY, "background"), (BUNNY, "blur")]
#: The slowest batch may take this many times the median.
SLOWEST = 1.5
ROUNDS = 3


@dataclass
class Processed:
    """A processed clip: the reports of its batches, and the path of the result."""

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


Worker = Callable[..., Processed]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Return a function that starts a pipeline, for whose thread cuDNN has made no trials yet."""
    with ExitStack() as stack:
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SWITCH_S)
        yield partial(video_worker, stack, count(), tmp_path)


def video_worker(
    stack: ExitStack, numbers: Iterator[int], folder: Path, device: str = "cuda", **how: Any
) -> Worker:
    pipeline = selfie_pipeline(device=device, **how)
    pipeline.load()
    stack.callback(pipeline.close)

    def make(
        clip: str, effect: "Effect", on_batch: Callable[[BatchDone], None] = lambda batch: None
    ) -> Processed:
        place = folder / str(next(numbers))
        place.mkdir()
        batches: list[BatchDone] = []

        def report(batch: BatchDone) -> None:
            batches.append(batch)
            on_batch(batch)

        request = VideoRequest(asset(clip), place / "out.mp4", place / "work", {"effect": effect})
        pipeline.run_clip(request, on_batch=report, canceled=lambda: False)
        return Processed(batches, request.target)

    return make


def show(what: str, values: list[float], reserved: list[int]) -> float:
    """Print the times of the batches. Return the slowest divided by the median."""
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


def test_cuda_matte_is_within_2e_3_of_cpu() -> None:
    """TF32, torch's default for convolutions, exceeds that. Its error is only printed."""
    import torch

    from worker.video.models.selfie_segmentation import SelfieSegmentation

    weights = asset("selfie_segmentation.tflite")
    cpu, cuda = (SelfieSegmentation.load(weights, torch.device(device)) for device in ("cpu", "cuda"))
    for clip in (CARPHONE, BUNNY):
        frames = pictures_of(clip, 16)
        expected = cpu.alpha(frames)
        worst = float((cuda.alpha(frames.cuda()).cpu() - expected).abs().max())
        torch.backends.cudnn.allow_tf32 = True
        tf32 = float((cuda.alpha(frames.cuda()).cpu() - expected).abs().max())
        torch.backends.cudnn.allow_tf32 = False
        print(f"\n{clip}: the matte is {worst:.1e} off at most; with TF32 {tf32:.1e}")
        assert worst < 2e-3


def test_cuda_video_equals_cpu_video(worker: Callable[..., Worker]) -> None:
    pictures = {}
    for device, source in (("cuda", "cuda"), ("cpu", "rss")):
        made = worker(device)(CARPHONE, "matte")
        assert [(b.frames, b.padded) for b in made.batches] == [(16, 0)] * 7 + [(8, 8)]
        assert {batch.memory.source for batch in made.batches} == {source}
        pictures[device] = made.pictures()
    assert np.abs(pictures["cuda"] - pictures["cpu"]).mean() < 0.5


def test_cuda_batches_have_steady_times_and_memory(worker: Callable[..., Worker]) -> None:
    """Each round starts a new worker, which has seen none of these sizes.

    A cold kernel costs time in every round. Other work of the machine costs time in one round only, and the
    median of the rounds ignores it.
    """
    times: dict[tuple[str, str], list[list[float]]] = {}
    for n in range(ROUNDS):
        make = worker()
        for clip, effect in CASES:
            made = make(clip, effect)
            show(f"round {n}, {clip}, {effect}", made.ms, made.reserved)
            assert not made.grew()
            times.setdefault((clip, effect), []).append(made.ms)
        for clip, effect in CASES:  # again, after clips of other sizes have used the memory
            assert not make(clip, effect).grew()
    for case, rounds in times.items():
        usual = [statistics.median(batch) for batch in zip(*rounds, strict=True)]
        assert show(f"median of rounds, {', '.join(case)}", usual, [0]) <= SLOWEST


def test_cuda_two_clips_at_once_have_results_and_memory_of_each_alone(worker: Callable[..., Worker]) -> None:
    """x264 does not write the same file twice, so the pictures may differ a little."""
    make, cases = worker(), [(BUNNY, "blur"), (CARPHONE, "matte")]
    alone = [make(*case) for case in cases]
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda case: make(*case), cases * 2))
    for one, other in zip(alone * 2, both, strict=True):
        show("two at once", other.ms, other.reserved)
        for batch in other.batches:
            assert batch.memory.before.reserved == batch.memory.peak_reserved == batch.memory.after.reserved
        assert np.abs(one.pictures() - other.pictures()).mean() < 0.5


def test_cuda_size_of_settings_is_warm_from_start(worker: Callable[..., Worker]) -> None:
    make = worker(sizes=[ClipSize(1280, 720)])
    first, second = make(BUNNY, "blur"), make(BUNNY, "blur")
    show("the first clip of a worker", first.ms, first.reserved)
    assert not first.grew()
    assert first.reserved == second.reserved


def test_cuda_without_padding_has_same_result_and_short_last_batch(
    worker: Callable[..., Worker],
) -> None:
    """The cost of the short batch is only printed."""
    made = {}
    for pad in (True, False):
        made[pad] = worker(pad=pad)(CARPHONE, "matte")
        show(f"padding {pad}", made[pad].ms, made[pad].reserved)
    assert [(b.frames, b.padded) for b in made[False].batches] == [(16, 0)] * 7 + [(8, 0)]
    assert np.abs(made[True].pictures() - made[False].pictures()).mean() < 0.5


@pytest.mark.skipif(not any(map(which, ("cc", "gcc", "clang"))), reason="no C compiler here")
def test_cuda_compiled_model_has_same_result_in_steady_batches(
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
    """Yield a list for tensors that fill the device, and free them at the end."""
    import torch

    pieces: list[Tensor] = []
    yield pieces
    pieces.clear()
    torch.cuda.empty_cache()


def test_cuda_out_of_memory_fails_one_video_only(
    worker: Callable[..., Worker], ballast: "list[Tensor]"
) -> None:
    make = worker()

    def fill(batch: BatchDone) -> None:
        if batch.index == 2:
            fill_device(ballast)

    with pytest.raises(OutOfMemory):
        make(BUNNY, "blur", fill)
    ballast.clear()
    made = make(BUNNY, "blur")
    assert len(made.batches) == 9
    assert not made.grew()


def test_cuda_results_lie_in_one_pinned_buffer() -> None:
    """The writer copies them before the next batch."""
    import torch

    from worker.video.inference.model_runner import ModelRunner
    from worker.video.model import Clip
    from worker.video.models.selfie_segmentation import MattingOptions, SelfieSegmentation

    model = SelfieSegmentation.load(asset("selfie_segmentation.tflite"), torch.device("cuda"))
    runner = ModelRunner(model, "cuda", 2)
    clip, stages = Clip(64, 48, Fraction(25), None), Stages()
    buffers = runner.buffers()
    model_pass, _ = runner.prepare(clip, MattingOptions(background="#090909"), buffers, stages)
    frames = buffers.allocate((2, 48, 64, 3)).numpy()
    seen, copies = [], []
    for shade in (0, 100):
        frames[:] = shade
        seen.append(cast(np.ndarray, model_pass(frames, 2)))
        copies.append(seen[-1].copy())
    assert all(torch.from_numpy(buffer).is_pinned() for buffer in (frames, *seen))
    assert np.shares_memory(seen[0], seen[1])
    assert copies[0].max() <= 9
    assert {int(frame.max()) for frame in copies[1]} <= set(range(9, 101))
    seconds = stages.take()
    assert seconds.keys() == {"copy", "model"}
    assert min(seconds.values()) > 0  # the device has passed the events of all copies
