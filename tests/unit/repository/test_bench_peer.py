"""Tests of the parts of `bench.peer` that make commands, models and figures."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from bench.contestants import flags, shown_logs
from bench.crowd import Figures
from bench.dummy_model import LLAMA_8B, make_dummy_model, read_shape
from bench.peer import added_rows, all_settings, medians, ratio_rows
from bench.peer_client import Load, read_report
from worker.jobs.settings import Settings

LOAD = Load(at_once=2, tokens_in=32, tokens_out=10, seed=7)


def figures(rate: float, first_ms: float, between_ms: float = 4.0, pauses_ms: float = 4.0) -> Figures:
    """Return figures whose 99th percentiles are twice the medians."""
    return Figures(rate, *[(median, 2 * median) for median in (first_ms, between_ms, pauses_ms)])


def report(**changes: Any) -> dict[str, Any]:
    """Return a report of `vllm bench serve` about the load."""
    names = [f"{kind}_{name}_ms" for name in ("ttft", "tpot", "itl") for kind in ("median", "p99")]
    values = dict(zip(names, [10.0, 20.0, 3.0, 6.0, 4.0, 8.0], strict=True))
    return values | {"output_throughput": 500.0, "total_output_tokens": 80} | changes


def test_read_report_returns_rate_and_percentiles() -> None:
    assert read_report(report(), LOAD) == figures(500.0, 10.0, 3.0, 4.0)


def test_read_report_refuses_report_with_missing_tokens() -> None:
    with pytest.raises(RuntimeError, match="the clients got 70 tokens instead of 80"):
        read_report(report(total_output_tokens=70), LOAD)


def test_medians_are_those_of_each_figure() -> None:
    rounds = [figures(100.0, 9.0), figures(300.0, 7.0), figures(200.0, 8.0)]
    assert medians(rounds) == figures(200.0, 8.0)


def test_ratio_rows_compare_stoker_with_each_vllm_at_the_same_number_of_clients() -> None:
    results = {
        ("engine", 1): figures(900.0, 5.0),
        ("vllm", 1): figures(500.0, 10.0),
        ("vllm x4", 1): figures(400.0, 8.0),
        ("vllm", 64): figures(500.0, 10.0),
        ("stoker", 1): figures(600.0, 12.0, 2.0, 8.0),
    }
    _, one, four = ratio_rows(results)
    assert one.split() == ["stoker", "/", "vllm", "1", "1.20", "1.20", "1.20", "0.50", "0.50", "2.00", "2.00"]
    assert four.split()[:6] == ["stoker", "/", "vllm", "x4", "1", "1.50"]


def test_ratio_rows_need_both_servers() -> None:
    assert not ratio_rows({("stoker", 1): figures(600.0, 12.0), ("vllm", 64): figures(500.0, 10.0)})


def test_added_rows_are_the_first_token_less_that_of_the_engine() -> None:
    results = {("engine", 1): figures(900.0, 5.0), ("stoker", 1): figures(600.0, 12.5)}
    assert [row.split() for row in added_rows(results)] == [
        ["stoker", "1", "added", "first", "token:", "7.5", "ms"]
    ]


def test_flags_are_options_of_vllm() -> None:
    values: dict[str, Any] = {"max_num_seqs": 8, "enforce_eager": True, "enable_prefix_caching": False}
    values |= {"dtype": "float32", "hf_overrides": {"a": 1}}
    assert flags(values) == [
        *("--max-num-seqs", "8", "--enforce-eager", "--no-enable-prefix-caching"),
        *("--dtype", "float32", "--hf-overrides", '{"a": 1}'),
    ]


def test_shown_logs_are_printed_only_after_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "server.log"
    log.write_text("out of memory\n")
    with shown_logs(log):
        pass
    assert capsys.readouterr().out == ""
    with pytest.raises(RuntimeError), shown_logs(log, tmp_path / "missing.log"):
        raise RuntimeError
    assert "out of memory" in capsys.readouterr().out


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Make a model's directory with a tokenizer of three tokens."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "chat_template.jinja", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    vocabulary = {"a": 0, "b": 1, "c": 2}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    return folder


def test_shape_of_config_gets_special_tokens_of_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 9, "eos_token_id": 8}))
    expected = {"vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2}
    assert read_shape(str(tmp_path)) == read_shape(str(tmp_path / "config.json")) == expected
    assert read_shape("8b") == LLAMA_8B


def test_dummy_model_refuses_vocabulary_smaller_than_that_of_its_tokenizer(
    tokenizer: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="the model's 2 tokens are fewer than the 3 of its tokenizer"):
        make_dummy_model(tmp_path / "dummy", tokenizer, {"vocab_size": 2})
    assert not (tmp_path / "dummy").exists()


def test_all_settings_are_those_of_models_and_then_of_dummies(tokenizer: Path, tmp_path: Path) -> None:
    own = {"chat_model": str(tokenizer), "vllm_args": '{"enforce_eager": true}'}
    user = Settings.from_env().replace(home=str(tmp_path), **own)
    config = tmp_path / "shape.json"
    config.write_text(json.dumps({"vocab_size": 4}))
    args = Namespace(models=["other"], dummy=[str(config)])
    weights, dummy = all_settings(user, args, tmp_path / "dummies")
    assert (weights.chat_model, dict(weights.vllm_args)) == ("other", {"enforce_eager": True})
    assert dict(dummy.vllm_args) == {"enforce_eager": True, "load_format": "dummy"}
    assert json.loads((Path(dummy.chat_model) / "config.json").read_text())["vocab_size"] == 4
    assert [*all_settings(user, Namespace(models=[], dummy=[]), tmp_path)] == [user]
