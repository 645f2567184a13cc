"""Compare the stack with `vllm serve` and with the bare engine: the same model, device and client.

    python -m bench.peer [--at-once 1 64 256] [--contestants engine vllm stoker] [--api-server-count 1 4]
                         [--web-processes 4] [--models SmolLM2-135M-Instruct.Q4_1.gguf] [--dummy 8b]
                         [--rounds 3] [--tokens-in 32] [--tokens-out 128] [--cpu]

The contestants run one after the other, each alone on the device. The client is that of vLLM, `vllm bench
serve`. Chats are greedy and streamed over `/v1/chat/completions`, and have random prompts. No prompt comes
twice in a contestant, and all contestants get the same ones. The bare engine is the engine of a worker, in
the process of the client and without HTTP. It gets its prompts as text, too. `STOKER_VLLM_ARGS` goes to all.

A row shows the medians of the rounds. The columns in pairs are the median and the 99th percentile, in ms:

- first token: from the request to the first chunk with text;
- between tokens: the time from the first chunk of a chat to its last, divided by its number of tokens less
  one. The percentile is that of the chats;
- between chunks: each pause between two chunks. Under load Stoker sends several tokens in a chunk, and the
  client counts one pause for all of them. So compare the time between tokens, and read this column as the
  pause that a reader sees.

The spread is that of the tokens/s in the rounds: (most - least) / median. At the end come the ratios of
Stoker to each `vllm serve`, and the added first token: that of Stoker less that of the bare engine, and the
same for `vllm serve`.

A dummy model has the shape in a Hugging Face config.json and made-up weights; "8b" is that of Llama 3.1 8B.
Its tokenizer is that of SmolLM2.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contestants import Contestants, Measure, model_folder
from bench.crowd import Figures
from bench.dummy_model import make_dummy_model, read_shape
from bench.peer_client import Load, PeerClient
from worker.jobs.settings import Settings

NAMES = ["engine", "vllm", "stoker"]
PAIRS = ["first token", "between tokens", "between chunks"]

#: The figures of a model by contestant and number of clients.
Results = dict[tuple[str, int], Figures]


def main() -> None:
    args = parse_args()
    own = {"slots": max(args.at_once), "web_processes": args.web_processes, "engine": "vllm"}
    user = Settings.from_env().replace(**own, kinds="chat", devices="cpu" if args.cpu else None)
    user.home_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, PeerClient(user.home_dir / "peer-client.log") as client:
        for settings in all_settings(user, args, Path(folder)):
            contestants = Contestants(settings, model_folder(settings), client)
            print(f"{settings.model_name('chat')}, {args.tokens_in} tokens in, {args.tokens_out} out")
            results = compare(contestants, args)
            print("\n".join([*ratio_rows(results), *added_rows(results)]), flush=True)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 64, 256], help="numbers of clients")
    parser.add_argument("--contestants", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--api-server-count", type=int, nargs="+", default=[1], help="of `vllm serve`")
    parser.add_argument("--web-processes", type=int, default=4, help="API processes of the stack")
    parser.add_argument("--models", nargs="+", default=[], help="models with weights")
    parser.add_argument("--dummy", nargs="+", default=[], metavar="MODEL_CONFIG", help="models without")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each row")
    parser.add_argument("--tokens-in", type=int, default=32)
    parser.add_argument("--tokens-out", type=int, default=128)
    parser.add_argument("--cpu", action="store_true")
    return parser.parse_args()


def all_settings(user: Settings, args: argparse.Namespace, folder: Path) -> Iterator[Settings]:
    """Yield the settings for each model: that of the user's settings, if the arguments name none."""
    if not args.models and not args.dummy:
        yield user
    for model in args.models:
        yield user.replace(chat_model=model)
    vllm_args = json.dumps({**user.vllm_args, "load_format": "dummy"})
    for number, config in enumerate(args.dummy):
        shape, name = read_shape(config), "dummy-8b" if config == "8b" else f"dummy-{number}"
        model = make_dummy_model(folder / name, model_folder(user), shape)
        yield user.replace(chat_model=str(model), vllm_args=vllm_args)


def compare(contestants: Contestants, args: argparse.Namespace) -> Results:
    """Run the contestants one after the other, print their rows, and return their figures."""
    running: dict[str, AbstractContextManager[Measure]] = {}
    for name in args.contestants:
        if name == "vllm":
            for count in args.api_server_count:
                running["vllm" if count == 1 else f"vllm x{count}"] = contestants.vllm(count)
        else:
            running[name] = contestants.engine() if name == "engine" else contestants.stoker()
    print(title("tokens/s", "spread"), flush=True)
    results: Results = {}
    for name, starting in running.items():
        with starting as measure:
            for at_once in args.at_once:
                rounds = [
                    measure(Load(at_once, args.tokens_in, args.tokens_out, seed=1000 * at_once + number))
                    for number in range(args.rounds)
                ]
                results[name, at_once] = found = medians(rounds)
                rates = [each.tokens_s for each in rounds]
                spread = (max(rates) - min(rates)) / found.tokens_s
                pairs = "".join(f"{median:>9.1f} {high:>8.1f}" for median, high in found.pairs_ms)
                print(f"{name:>17} {at_once:>8} {found.tokens_s:>9.0f} {spread:>6.0%}{pairs}", flush=True)
    return results


def title(rate: str, spread: str = "") -> str:
    """Return the head of a table."""
    return f"{'':>17} {'at once':>8} {rate:>9} {spread:>6}" + "".join(f"{name:>18}" for name in PAIRS)


def medians(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    pairs = [
        (statistics.median(median for median, _ in pair), statistics.median(high for _, high in pair))
        for pair in zip(*(each.pairs_ms for each in rounds), strict=True)
    ]
    return Figures(statistics.median(each.tokens_s for each in rounds), *pairs)


def ratio_rows(results: Mapping[tuple[str, int], Figures]) -> Sequence[str]:
    """Return a table of what Stoker's figures are as a multiple of those of each `vllm serve`."""
    rows = []
    for (name, at_once), peer in results.items():
        stoker = results.get(("stoker", at_once))
        if name.startswith("vllm") and stoker:
            pairs = zip(stoker.pairs_ms, peer.pairs_ms, strict=True)
            cells = "".join(f"{a / c:>9.2f} {b / d:>8.2f}" for (a, b), (c, d) in pairs)
            rate = stoker.tokens_s / peer.tokens_s
            rows.append(f"{f'stoker / {name}':>17} {at_once:>8} {rate:>9.2f} {'':>6}{cells}")
    return [title("ratio"), *rows] if rows else []


def added_rows(results: Mapping[tuple[str, int], Figures]) -> Iterator[str]:
    """Yield how much later than that of the bare engine the first token of each server comes."""
    for (name, at_once), found in results.items():
        engine = results.get(("engine", at_once))
        if name != "engine" and engine:
            added_ms = found.first_ms[0] - engine.first_ms[0]
            yield f"{name:>17} {at_once:>8} added first token: {added_ms:.1f} ms"


if __name__ == "__main__":
    main()
