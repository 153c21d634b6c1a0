# Two commands matter: `make demo` shows the whole story, `make test` proves it.
# Needs python3 (3.11 or later), git and make; everything else goes into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= auto
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev

.PHONY: help demo test lint types imports unit real soak bench wheel clean

help:  ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12 ..."; exit 2; }
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	@echo "installing agentctl-swarm into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@echo "installing agentctl-swarm and what its tests need into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(STAMP)

demo: $(STAMP)  ## the whole story in a temporary home, in under 30 seconds
	@$(BIN)/agentctl demo

test: lint types imports unit  ## everything that proves the project: style, types, import rules, tests

lint: $(DEV)  ## ruff: style and mistakes
	@echo "ruff" && $(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(DEV)  ## mypy --strict over the package
	@echo "mypy" && $(BIN)/mypy

imports: $(DEV)  ## who may import whom
	@echo "import rules" && $(BIN)/lint-imports --no-cache

unit: $(DEV)  ## the test suite, in parallel and in random order
	@echo "pytest" && $(BIN)/python -m pytest -n $(JOBS) -m "not real_cli"

real: $(DEV)  ## real agent CLIs from the npm registry against a stand-in provider
	@$(BIN)/python -m pytest -n $(JOBS) -m real_cli -rs

soak: $(STAMP)  ## ten minutes of storm over a fleet of its own; SEED=N for the same again
	@$(BIN)/agentctl chaos --minutes 10 $(if $(SEED),--seed $(SEED))

bench: $(DEV)  ## the numbers, each beside its baseline; writes bench/results.json
	@$(BIN)/python -m bench

wheel: $(DEV)  ## build dist/*.whl
	@$(BIN)/python -m build --wheel --outdir dist .

clean:  ## remove what was made here, the virtual environment too
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache
