"""The plan of an installation: its GPUs, its processes and its load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["DAY_S", "SPEEDS", "Plan", "Speed"]

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Speed:
    """How long a step of an engine takes, by the number of chats that it runs at once.

    Steps of other numbers lie on the lines between these. `prefill_s` is the time from the start of a chat to
    its first step.
    """

    at_once: Sequence[int]
    step_s: Sequence[float]
    prefill_s: float = 0.0

    def step(self, at_once: int) -> float:
        """Return the seconds of a step with so many chats."""
        return float(np.interp(at_once, self.at_once, self.step_s))

    def steps(self, slots: int) -> Sequence[float]:
        """Return the seconds of a step with 0, 1, … chats, up to the number of slots."""
        found: list[float] = np.interp(np.arange(slots + 1), self.at_once, self.step_s).tolist()
        return found


def _speed(tokens_s: Mapping[int, float], first_s: float) -> Speed:
    """Return the speed of an engine that makes so many tokens a second with 1, … chats at once."""
    steps = [at_once / rate for at_once, rate in tokens_s.items()]
    return Speed(list(tokens_s), steps, first_s - steps[0])


#: The speeds of vLLM 0.24 in a worker on one H100, 32 tokens in and 128 out, measured by `bench.peer`: a
#: model with the shape of Llama 3.1 8B, and SmolLM2-135M.
SPEEDS: Mapping[str, Speed] = {
    "8b": _speed({1: 155, 64: 7_900, 256: 17_747}, 0.023),
    "135m": _speed({1: 585, 64: 16_164, 256: 23_552}, 0.015),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """An installation and a load. Each worker has one GPU.

    `models` are the shares of chats and of workers that the models have. `keys` API keys send the chats. The
    hour before and after `peak_hour` has about `peak_factor` times the mean rate of chats. `bursts` times a
    day, the rate is `burst_factor` times as high for `burst_s` seconds. Answers have `tokens_out` tokens on
    average, with this distribution. A worker is lost `deaths_per_day` times a day on average. `round_trip_s`
    is the time of the network between two hosts, both ways.
    """

    gpus: int = 1000
    slots: int = 128
    models: Sequence[float] = (0.6, 0.3, 0.1)
    speed: Speed = SPEEDS["8b"]
    api_processes: int = 32
    chats_per_day: float = 1e6
    keys: int = 1000
    peak_hour: float = 15.0
    peak_factor: float = 2.5
    bursts: int = 4
    burst_factor: float = 3.0
    burst_s: float = 60.0
    tokens_out: float = 400.0
    lengths: str = "lognormal"
    deaths_per_day: float = 0.01
    restart_s: float = 90.0
    lease_s: float = 10.0
    round_trip_s: float = 0.0002
    begin_s: float = 0.0
    seconds: float = DAY_S
    seed: int = 1

    @property
    def workers(self) -> Sequence[int]:
        """The number of workers of each model."""
        shares = np.cumsum([0.0, *self.models]) / sum(self.models)
        edges = np.rint(shares * self.gpus).astype(int)
        return [max(1, int(count)) for count in np.diff(edges)]
