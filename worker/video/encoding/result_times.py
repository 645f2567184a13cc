"""The times at which a result's frames are displayed, if it has more or fewer frames than the clip."""

from __future__ import annotations

from collections.abc import Sequence

from worker.video.model import Output

__all__ = ["result_times"]


def result_times(pts: Sequence[int], next_pts: int | None, output: Output) -> list[int]:
    """Return the times of the results of one batch, in ticks that are M times as short as those of the clip.

    There are M results for every N frames (`Output.per`). `pts` are the times of the batch's frames in ticks
    of the clip, and `next_pts` is the time of the frame after them, which only M > 1 needs. The batch begins
    with the first frame of a group of N. A result between two frames gets the time between theirs, in
    proportion. So all times are exact, whatever the clip's rate is.
    """
    out, into = output.per
    ticks = [*pts, next_pts or 0]
    times = []
    for number in range(output.count(len(pts))):
        frame, part = divmod(number * into, out)
        times.append(ticks[frame] * (out - part) + (ticks[frame + 1] * part if part else 0))
    return times
