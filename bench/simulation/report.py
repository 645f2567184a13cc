"""The report of a simulation: tables on the standard output."""

from collections.abc import Iterator

from bench.simulation.background import Background
from bench.simulation.costs import Costs
from bench.simulation.figures import Figures, pair

__all__ = ["print_figures", "print_row", "print_title"]


def print_figures(figures: Figures, costs: Costs) -> None:
    """Print the figures of a plan: means, and those of the busiest minute or second."""
    print(f"costs measured on: {costs.machine}")
    print(f"{'':>44} {'median':>14} {'99th':>14}")
    for name, median, high in _time_rows(figures):
        print(f"{name:>44} {median:>14} {high:>14}")
    print(f"{'':>44} {'mean':>14} {'busiest':>14}")
    for name, mean, most in _load_rows(figures, costs):
        print(f"{name:>44} {mean:>14.3f} {most:>14.3f}")
    print(f"{'Redis':>44} {'share':>14} {'round trips/s':>14}")
    for name, share in figures.redis_shares.items():
        trips = figures.redis.round_trips[name] / figures.plan.seconds
        print(f"{name:>44} {share:>14.5f} {trips:>14.1f}")


def _time_rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    for name, values in (("queue wait", figures.waits), ("first token", figures.firsts)):
        median, high = (f"{1000 * value:.1f} ms" for value in pair(values))
        yield name, median, high
    median, high = (f"{value:.1f} s" for value in pair(figures.gaps))
    yield f"silence of {len(figures.gaps)} chats after a death", median, high


def _load_rows(figures: Figures, costs: Costs) -> Iterator[tuple[str, float, float]]:
    """Yield the name of each load, its mean, and its highest value."""
    yield "share of GPUs with a chat", figures.busy_gpus, figures.level("busy") / sum(figures.plan.workers)
    yield "share of slots with a chat", figures.busy_slots, figures.level("running", True) / figures.slots
    for name, title in (("chats", "chats/s"), ("tokens", "tokens/s"), ("redis_s", "share of Redis' thread")):
        yield title, figures.rate(name), figures.rate(name, True)
    for name, title in (("api_s", "cores of the API"), ("round_trips", "round trips to Redis/s")):
        yield title, figures.rate(name), figures.rate(name, True)
    for name, title in (("running", "running chats"), ("waiting", "waiting chats"), ("open", "open streams")):
        yield title, figures.level(name), figures.level(name, True)
    for name, title in (("events", "token events/s"), ("told", "places told/s")):
        yield title, figures.level(name), figures.level(name, True)
    upkeep_bytes = Background(figures.plan, costs).upkeep_bytes()
    for title, event_bytes, others in (
        ("MB/s to Redis, of token events", costs.event_in_bytes, 0.0),
        ("MB/s from Redis, of token events and leases", costs.event_out_bytes, upkeep_bytes),
    ):
        mean, most = (figures.level("events", busiest) * event_bytes + others for busiest in (False, True))
        yield title, mean / 1e6, most / 1e6


def print_title() -> None:
    """Print the title of the rows of `print_row`."""
    times = f"{'wait: median, 99th':>22} {'first token: same':>22}"
    print(f"{'chats/s':>9} {times} {'GPUs':>6} {'slots':>6} {'Redis':>6} {'API':>7}", end="")
    print(f" {'events/s':>9} {'trips/s':>8} {'told/s':>7} {'streams':>8}")


def print_row(figures: Figures) -> None:
    """Print the figures in one row: times, shares of GPUs, slots and Redis, cores of the API, and rates."""
    times = [
        "{:.1f}, {:.1f} ms".format(*(1000 * value for value in pair(values)))
        for values in (figures.waits, figures.firsts)
    ]
    shares = f"{figures.busy_gpus:>6.2f} {figures.busy_slots:>6.3f} {figures.rate('redis_s'):>6.3f}"
    events, trips, told = figures.level("events"), figures.rate("round_trips"), figures.level("told")
    chats = len(figures.firsts) / figures.plan.seconds
    print(f"{chats:>9.1f} {times[0]:>22} {times[1]:>22} {shares} {figures.rate('api_s'):>7.2f}", end="")
    print(f" {events:>9.0f} {trips:>8.0f} {told:>7.0f} {figures.level('open', True):>8.0f}", flush=True)
