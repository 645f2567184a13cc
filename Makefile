# `make demo` and `make test` set up all they need: Python 3.11+ is enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test faults lint clean

demo: $(INSTALLED)
	$(BIN)/python -m webapi.demo

test: lint
	$(BIN)/python -m pytest

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

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[worker,local,dev]'
	touch $@
