# `make demo` and `make test` set up all they need: Python 3.11+ is enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test browser-test faults lint clean

demo: $(INSTALLED)
	$(BIN)/python -m webapi.demo

test: lint tests/browser/node_modules
	$(BIN)/python -m pytest

# The same streams in a real browser: Debian's `chromium`, if it is there.
browser-test: $(INSTALLED) tests/browser/node_modules
	$(BIN)/python -m pytest tests/browser

# Twenty minutes of kills and outages: thousands of scripted jobs, then the real models.
faults: $(INSTALLED)
	$(BIN)/python -m tests.faults long
	$(BIN)/python -m tests.faults real

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

tests/browser/node_modules: tests/browser/package-lock.json
	if command -v npm > /dev/null; then npm ci --silent --prefix tests/browser && touch $@; \
	else echo "no npm: the tests of JavaScript clients are skipped"; fi

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[worker,local,dev]'
	touch $@
