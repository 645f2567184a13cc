"""The chats of a load: when each arrives, of which model and key, and how long its answer is."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.simulation.plan import DAY_S, Plan

__all__ = ["Chat", "arrivals"]

#: Seconds for which the rate of arrivals stays the same.
INTERVAL_S = 10.0
#: The standard deviation of the logarithm of answers' lengths, for lognormal lengths, and the longest answer.
LOG_SIGMA, LONGEST = 1.0, 32_768

Lengths = Callable[[np.random.Generator, float, int], NDArray[np.float64]]

#: The distributions of the lengths of answers, by name.
LENGTHS: Mapping[str, Lengths] = {
    "constant": lambda _, mean, count: np.full(count, mean),
    "exponential": lambda rng, mean, count: rng.exponential(mean, count),
    "lognormal": lambda rng, mean, count: rng.lognormal(np.log(mean) - LOG_SIGMA**2 / 2, LOG_SIGMA, count),
}


class Chat(NamedTuple):
    """A chat that a client sends at this time (s), and the tokens of its answer."""

    at: float
    model: int
    key: int
    tokens: int


def arrivals(plan: Plan) -> Iterator[Chat]:
    """Yield the chats of the plan in the order of their arrival. The same seed gives the same chats.

    They are a Poisson process whose rate follows the time of the day. The share of key k is proportional to
    1/k, so a few keys send most of the chats.
    """
    rng = np.random.default_rng(plan.seed)
    shares, weights = np.array(plan.models), 1.0 / np.arange(1, plan.keys + 1)
    for begin, rate in _rates(plan, rng):
        length = min(INTERVAL_S, plan.seconds - begin)
        count = int(rng.poisson(rate * length))
        times = begin + np.sort(rng.uniform(0, length, count))
        models = rng.choice(len(shares), count, p=shares / shares.sum())
        keys = rng.choice(plan.keys, count, p=weights / weights.sum())
        tokens = np.clip(np.rint(LENGTHS[plan.lengths](rng, plan.tokens_out, count)), 1, LONGEST)
        columns = times, models, keys, tokens.astype(int)
        yield from map(Chat, *(column.tolist() for column in columns))


def _rates(plan: Plan, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Yield the begin of each interval and its rate of chats per second."""
    begins = np.arange(0.0, plan.seconds, INTERVAL_S)
    day = (plan.begin_s + begins) % DAY_S / DAY_S
    width = _width(plan.peak_factor)
    curve = np.exp(width * np.cos(2 * np.pi * (day - plan.peak_hour / 24))) / np.i0(width)
    bursts = rng.uniform(0, DAY_S, plan.bursts)
    since = (plan.begin_s + begins)[:, None] % DAY_S - bursts
    burst = ((since >= 0) & (since < plan.burst_s)).any(axis=1)
    rates = plan.chats_per_day / DAY_S * curve * np.where(burst, plan.burst_factor, 1.0)
    yield from zip(begins.tolist(), rates.tolist(), strict=True)


def _width(peak_factor: float) -> float:
    """Return k for which exp(k cos x) is at most `peak_factor` times its mean I0(k) (by bisection)."""
    low, high = 0.0, 500.0
    for _ in range(60):
        middle = (low + high) / 2
        if np.exp(middle) / np.i0(middle) < peak_factor:
            low = middle
        else:
            high = middle
    return low
