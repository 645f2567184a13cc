"""Measure one API with 1, 2, 4 and 8 workers, and one worker that splits its model over several GPUs.

    python -m bench.scale [--workers 1 2 4 8] [--kill 8] [--tensor-parallel 2 4 8] [--web-processes 16]
                          [--clients-per-worker 1 2]

Every worker leases one GPU and has as many slots as chats are sent to it at once. The model has the shape of
an 8B Llama and made-up weights. `vllm bench serve` is the client, with at least one process per worker. All
workers start at one instant. After the largest number is measured, workers stop until the next number is
left. The largest number is measured with each number of client processes, which shows whether the clients are
the limit. `--kill` starts so many workers and kills one of them under load.

The columns are tokens/s while all clients are busy, then pairs of median and 99th percentile in ms: the time
to the first token, the mean time between the tokens of a chat, and the time between two chunks, which may
hold several tokens. Then come the cores that the processes use, as "busiest process / all processes". An
engine waits for its GPU in a loop, so it uses a whole core at any load.

Without a GPU: `--engine transformers --model SmolLM2-135M-Instruct --at-once 2 --tokens-in 8 --tokens-out 8`.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.crowd import Load
from bench.fleet import check_devices
from bench.rig import Rig, running_rig
from tests.support.stack import eventually
from worker.devices.cores import usable_cores
from worker.devices.gpus import list_gpus


def measure_workers(rig: Rig, counts: Sequence[int], clients_per_worker: Sequence[int]) -> None:
    """Measure the numbers of workers from the largest to the smallest, and print their ratios."""
    start_workers(rig, max(counts))
    model = rig.settings.model_name("chat")
    rates: dict[int, float] = {}
    for count in sorted(counts, reverse=True):
        rig.fleet.keep(count)
        for parts in clients_per_worker if count == max(counts) else clients_per_worker[:1]:
            label, load = f"workers {count}, clients {count * parts}", split(rig.load, parts)
            rates[count] = max(rig.measure(label, model, count * parts, load), rates.get(count, 0.0))
    ratios = [f"{count}: {rates[count] / rates[min(counts)]:.2f}" for count in sorted(rates)]
    print(f"tokens/s as multiples of those of {min(counts)}: {', '.join(ratios)}", flush=True)
    rig.fleet.keep(0)


def start_workers(rig: Rig, count: int) -> None:
    """Start so many workers at one instant, and print whether each has its own GPU."""
    began = time.perf_counter()
    cards = rig.fleet.start([rig.settings] * count)
    print(f"{check_devices(cards)}; ready after {time.perf_counter() - began:.0f} s", flush=True)


def split(load: Load, parts: int) -> Load:
    """Return the load of one of `parts` clients that share `load`."""
    return Load(load.at_once // parts, load.waves, load.tokens_in, load.tokens_out)


def measure_kill(rig: Rig, count: int) -> None:
    """Kill one of `count` workers under load. All chats must complete, and its GPU must become free."""
    start_workers(rig, count)
    victim = rig.fleet.processes[-1]

    def is_busy() -> bool:
        return rig.fleet.cards([victim])[0].running > rig.load.at_once // 2

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(rig.crowd.run_clients, count, rig.settings.model_name("chat"), rig.load)
        eventually(is_busy, "a busy worker")
        freed_s = rig.fleet.kill(victim)
        answers = [answer for client in running.result() for answer in client]
    pause_s = max(max(answer.pauses_s, default=0.0) for answer in answers)
    first_s = max(answer.timing.first_s for answer in answers)
    print(f"1 of {count} workers killed under load: its GPU was free after {freed_s:.1f} s, and all")
    print(f"{len(answers)} chats have all their tokens. A chat paused for {pause_s:.1f} s at most,", end=" ")
    print(f"and had its first token after {first_s:.1f} s at the latest.", flush=True)
    rig.fleet.keep(0)


def measure_tensor_parallel(rig: Rig, sizes: Sequence[int]) -> None:
    """Measure one worker at a time that splits the model over so many GPUs.

    The workers of a group start together. Each serves the model under a name of its own.
    """
    for group in groups_that_fit(sizes, len(list_gpus())):
        first, members = 0, []
        for size in group:
            link = rig.settings.home_dir / f"on-{size}"
            link.symlink_to(rig.settings.chat_model)
            devices = ",".join(map(str, range(first, first + size)))
            members.append(rig.settings.replace(chat_model=str(link), devices=devices))
            first += size
        print(check_devices(rig.fleet.start(members)), flush=True)
        for settings, size in zip(members, group, strict=True):
            rig.measure(f"1 worker on {size} GPUs", settings.model_name("chat"), 1, rig.load)
        rig.fleet.keep(0)


def groups_that_fit(sizes: Sequence[int], gpus: int) -> list[list[int]]:
    """Split the sizes into groups, in their order, that each need at most `gpus` GPUs together."""
    groups: list[list[int]] = []
    for size in sizes:
        if groups and sum(groups[-1]) + size <= gpus:
            groups[-1].append(size)
        else:
            groups.append([size])
    return groups


def main() -> None:
    cores = usable_cores()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="*", default=[], help="numbers of workers")
    parser.add_argument("--kill", type=int, metavar="WORKERS", help="kill one of so many workers")
    parser.add_argument("--tensor-parallel", type=int, nargs="*", default=[], help="numbers of GPUs")
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--model", help="a model with weights, instead of the 8B shape")
    parser.add_argument("--at-once", type=int, default=128, help="chats at once per worker")
    parser.add_argument("--waves", type=int, default=8, help="chats per slot")
    parser.add_argument("--tokens-in", type=int, default=256)
    parser.add_argument("--tokens-out", type=int, default=128)
    parser.add_argument("--web-processes", type=int, default=max(1, cores // 8))
    parser.add_argument("--clients-per-worker", type=int, nargs="+", default=[1])
    args = parser.parse_args()
    clients = max(max([1, *args.workers]) * max(args.clients_per_worker), args.kill or 0)
    print(f"{len(list_gpus())} GPUs, {cores} cores, {args.web_processes} API processes, ", end="")
    print(f"{args.at_once} chats at once per worker, {args.tokens_in} tokens in, {args.tokens_out} out")
    with running_rig(args, clients) as rig:
        pairs = "".join(f"{name:>18}" for name in ("first token", "between tokens", "between chunks"))
        print(f"{'':>26} {'tokens/s':>9}{pairs}  cores", flush=True)
        if args.workers:
            measure_workers(rig, args.workers, args.clients_per_worker)
        if args.kill:
            measure_kill(rig, args.kill)
        if args.tensor_parallel:
            measure_tensor_parallel(rig, args.tensor_parallel)


if __name__ == "__main__":
    main()
