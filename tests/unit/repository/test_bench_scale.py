"""Tests of the parts of `bench.scale` that compute figures from what was measured, and of its model."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from bench.cpu_use import Sample, Share, shares
from bench.crowd import Answer, Load, busy_time, figures, read_report
from bench.dummy_model import make_dummy_model
from bench.fleet import check_devices
from bench.scale import groups_that_fit, split
from bench.streams import Timing
from worker.jobs.cards import WorkerCard


def answer(began: float, ended: float, tokens: int = 11) -> Answer:
    """Return a chat whose first token comes after a tenth of its time. The others come at an even pace."""
    first = began + (ended - began) / 10
    pause = (ended - first) / (tokens - 1)
    return Answer(Timing(began, first, ended, tokens, tokens), [pause] * (tokens - 1))


def card(device: str) -> WorkerCard:
    return WorkerCard("w", "chat", "host", 7, device, "model", "vllm", "chat.model", slots=8, running=0)


def report(**changes: Any) -> dict[str, Any]:
    """Return a detailed report of `vllm bench serve` about two chats of three tokens."""
    chats = {"start_times": [5.0, 6.0], "ttfts": [0.5, 0.25], "itls": [[0.125, 0.25], [0.5]]}
    return chats | {"output_lens": [3, 3], "errors": ["", ""]} | changes


def test_read_report_returns_times_and_pauses_of_each_chat() -> None:
    first, second = read_report(report())
    assert first.timing == Timing(5.0, 5.5, 5.875, 3, 3)
    assert second == Answer(Timing(6.0, 6.25, 6.75, 3, 2), [0.5])


def test_read_report_refuses_report_with_failed_chat() -> None:
    with pytest.raises(RuntimeError, match="1 chats failed, one of them with: Not Found"):
        read_report(report(errors=["", "Not Found"]))


def test_busy_time_is_from_last_second_wave_to_first_last_chat() -> None:
    early = [answer(began, began + 1) for began in (0.0, 0.1, 1.0, 1.1, 2.0, 2.1)]
    late = [answer(began, began + 1) for began in (0.5, 0.6, 1.5, 1.6, 2.5, 2.6)]
    assert busy_time([early, late], at_once=2) == (1.5, 2.1)


def test_busy_time_refuses_clients_that_ran_one_after_the_other() -> None:
    first, second = ([answer(began, began + 1) for began in (start, start + 1)] for start in (0.0, 5.0))
    with pytest.raises(RuntimeError, match="not busy at the same time"):
        busy_time([first, second], at_once=1)


def test_figures_count_tokens_of_all_clients_within_the_time() -> None:
    chats = [answer(0.0, 1.0), answer(1.0, 2.0), answer(2.0, 3.0)]
    found = figures([chats, chats], 1.0, 2.0)
    assert found.tokens_s == pytest.approx(2 * 11)
    assert found.first_ms == pytest.approx((100.0, 100.0))
    assert found.between_ms == found.pauses_ms == pytest.approx((90.0, 90.0))


def test_shares_are_cores_of_busiest_process_and_of_group() -> None:
    samples = [
        Sample(0.0, {("API", 1): 0.0}),
        Sample(1.0, {("API", 1): 1.0, ("API", 2): 5.0, ("Redis", 3): 1.0}),
        Sample(3.0, {("API", 1): 2.0, ("API", 2): 6.5, ("Redis", 3): 1.0, ("API", 4): 9.0}),
        Sample(9.0, {("API", 1): 8.0}),
    ]
    assert shares(samples, 0.5, 4.0) == {"API": Share(0.75, 1.25), "Redis": Share(0.0, 0.0)}
    assert shares(samples, 0.5, 2.0) == {}


def test_groups_that_fit_keep_order_and_fill_machine() -> None:
    assert groups_that_fit([2, 4, 8], 8) == [[2, 4], [8]]
    assert groups_that_fit([2, 2, 2], 4) == [[2, 2], [2]]
    assert groups_that_fit([], 8) == []


def test_split_divides_chats_at_once_only() -> None:
    assert split(Load(at_once=128, waves=8, tokens_in=256, tokens_out=64), 2) == Load(64, 8, 256, 64)


def test_check_devices_accepts_gpus_of_their_own() -> None:
    found = check_devices([card("GPU-a"), card("GPU-b,GPU-c")])
    assert found == "workers: 2, GPUs: 3, none of them shared"
    assert check_devices([card("cpu"), card("cpu")]) == "all workers are on the CPU"


@pytest.mark.parametrize("devices", [("GPU-a", "GPU-a"), ("GPU-a,GPU-b", "GPU-b"), ("GPU-a", "cpu")])
def test_check_devices_refuses_shared_gpu_and_cpu_beside_gpu(devices: tuple[str, str]) -> None:
    with pytest.raises(RuntimeError, match="do not hold GPUs of their own"):
        check_devices([card(device) for device in devices])


def test_dummy_model_has_a_token_for_each_id(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        (source / name).write_text("{}", "utf-8")
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    (source / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model}), "utf-8")
    folder = make_dummy_model(tmp_path / "dummy", source, {"vocab_size": 5})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 5
    assert tokenizer.encode("ab").ids == [2]
    assert tokenizer.decode([3, 4]) == "~3 ~4"
    assert json.loads((folder / "config.json").read_text("utf-8")) == {"vocab_size": 5}
