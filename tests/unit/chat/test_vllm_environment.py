"""Tests of the environment variables that a worker sets for vLLM, and of those that it leaves to the user."""

import importlib.util
import json
import os
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from worker.chat.vllm_engine.environment import prepare_environment


def prepared(monkeypatch: pytest.MonkeyPatch, *, flashinfer: bool, **user_environment: str) -> dict[str, str]:
    """Return the environment after `prepare_environment`, if `user_environment` was set before."""
    spec = ModuleSpec("flashinfer", None) if flashinfer else None
    monkeypatch.setattr(importlib.util, "find_spec", {"flashinfer": spec}.__getitem__)
    monkeypatch.setattr(os, "environ", user_environment)
    prepare_environment(slots=256)
    return user_environment


def test_vllm_environment_sets_spawn_and_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = prepared(monkeypatch, flashinfer=True, VLLM_WORKER_MULTIPROC_METHOD="fork")
    assert json.loads(Path(environ.pop("VLLM_LOGGING_CONFIG_PATH")).read_text("utf-8"))["handlers"]
    assert environ == {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_V1_OUTPUT_PROC_CHUNK_SIZE": "256",
    }


def test_vllm_environment_disables_flashinfer_where_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "VLLM_USE_FLASHINFER_SAMPLER"
    assert prepared(monkeypatch, flashinfer=False)[name] == "0"
    assert prepared(monkeypatch, flashinfer=False, **{name: "1"})[name] == "1"
    assert name not in prepared(monkeypatch, flashinfer=True)
