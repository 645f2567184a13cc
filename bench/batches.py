"""Measure how long an interactive client waits for its first token beside a batch.

    python -m bench.batches [--requests 1000] [--chats 40] [--slots 8]

The stack has a scripted engine that takes 20 ms for a token of all its chats, however many they are. The
interactive client streams one chat after another by OpenAI's route, first undisturbed, and then while a batch
fills the slots. Both belong to the same API key.
"""

import argparse
import json
import statistics
import time
from contextlib import ExitStack
from typing import Literal

import openai

from bench.processes import running_process, scripted_argv, scripted_settings
from tests.support.scripted import digits_chat
from tests.support.stack import eventually
from webapi.client import Client
from webapi.local.commands import web_argv

URL: Literal["/v1/chat/completions"] = "/v1/chat/completions"


def first_token_s(client: openai.OpenAI, number: int) -> float:
    """Stream a chat to its end. Return the seconds to its first token."""
    began, first = time.perf_counter(), None
    for _ in client.chat.completions.create(model="scripted", stream=True, **digits_chat(number)):
        first = first or time.perf_counter() - began
    assert first
    return first


def create_batch(client: openai.OpenAI, requests: int) -> openai.types.Batch:
    lines = [
        {"custom_id": str(number), "method": "POST", "url": URL, "body": digits_chat(number)}
        for number in range(requests)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")


def show(label: str, waits_s: list[float]) -> None:
    median, high = statistics.median(waits_s), statistics.quantiles(waits_s, n=10)[-1]
    print(f"{label:>14} {1000 * median:>10.0f} {1000 * high:>10.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1000, help="requests of the batch")
    parser.add_argument("--chats", type=int, default=40, help="interactive chats in each case")
    parser.add_argument("--slots", type=int, default=8)
    args = parser.parse_args()
    with ExitStack() as stack:
        settings = stack.enter_context(scripted_settings(slots=args.slots, kinds="chat"))
        argv = scripted_argv("tests.support.workers.fake", settings)
        stack.enter_context(running_process(web_argv(settings), settings, settings.home_dir / "web.log"))
        stack.enter_context(running_process(argv, settings, settings.home_dir / "chat.log"))
        api = stack.enter_context(Client(settings.url))
        eventually(lambda: api.alive() and api.ready(), "a worker")
        client = openai.OpenAI(base_url=f"{settings.url}/v1", api_key="none")
        first_token_s(client, 0)
        print(f"{'ms to token 1':>14} {'median':>10} {'p90':>10}")
        alone = [first_token_s(client, number) for number in range(args.chats)]
        show("undisturbed", alone)
        batch, began = create_batch(client, args.requests), time.monotonic()
        eventually(lambda: api.queues()[0]["running"] >= args.slots - 1, "a busy worker")
        beside = [first_token_s(client, number) for number in range(args.chats)]
        busy = client.batches.retrieve(batch.id).status == "in_progress"
        show("beside a batch", beside)
        print(f"ratio of the medians: {statistics.median(beside) / statistics.median(alone):.2f}")
        print("the batch ran all the time" if busy else "THE BATCH ENDED BEFORE: use more --requests")
        status = lambda: client.batches.retrieve(batch.id).status == "completed"  # noqa: E731
        eventually(status, "the end of the batch", 3600)
        took = time.monotonic() - began
        print(f"batch of {args.requests}: {took:.1f} s, {args.requests / took:.1f} requests/s")


if __name__ == "__main__":
    main()
