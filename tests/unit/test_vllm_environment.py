"""What a worker sets for vLLM, and what it leaves to its user."""

import importlib.util
import os
from importlib.machinery import ModuleSpec

import pytest

from worker.chat.vllm_engine.environment import prepare


def prepared(monkeypatch: pytest.MonkeyPatch, *, flashinfer: bool, **users: str) -> dict[str, str]:
    """The environment of a worker that had the user's."""
    spec = ModuleSpec("flashinfer", None) if flashinfer else None
    monkeypatch.setattr(importlib.util, "find_spec", {"flashinfer": spec}.__getitem__)
    monkeypatch.setattr(os, "environ", users)
    prepare(slots=256)
    return users


def test_vllm_spawns_and_its_steps_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = prepared(monkeypatch, flashinfer=True, VLLM_WORKER_MULTIPROC_METHOD="fork")
    assert environ == {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_V1_OUTPUT_PROC_CHUNK_SIZE": "256",
    }


def test_flashinfer_samples_only_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "VLLM_USE_FLASHINFER_SAMPLER"
    assert prepared(monkeypatch, flashinfer=False)[name] == "0"
    assert prepared(monkeypatch, flashinfer=False, **{name: "1"})[name] == "1"
    assert name not in prepared(monkeypatch, flashinfer=True)
