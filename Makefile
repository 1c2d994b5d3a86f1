# Every target does its own set-up: a .venv beside this file, filled from pyproject.toml, and filled again only
# when pyproject.toml changes. Needs Python >= 3.11 and make. Another interpreter: make demo PYTHON=/path/to/python

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= 2

# The first interpreter on the PATH that is new enough; empty when there is none.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v "$$p"; break; fi; done)

# One compute thread per process: the tensors are small, and threads on a busy machine cost far more than they give.
export OMP_NUM_THREADS ?= 1

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: $(INSTALLED) ## the main job: the optimal learning-rate band on real images, in minutes
	$(BIN)/lratlas run band-digits

.PHONY: test
test: $(INSTALLED) ## every test, the slow ones included (about three quarters of an hour on 2 cores)
	$(BIN)/python -m pytest -q -n $(WORKERS)
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "slow and not ray"
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m study
	$(BIN)/python -m pytest -q -m "slow and ray and not study"

.PHONY: check
check: $(INSTALLED) ## linter, formatter, type checker and the quick tests (about 5 minutes)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow and not ray"

.PHONY: bench
bench: $(INSTALLED) ## measure every claim; writes benchmarks/results/*.json
	$(BIN)/python -m pip install --quiet --editable ".[peers]"
	for script in benchmarks/[a-z]*.py; do $(BIN)/python "$$script"; done

.PHONY: install
install: $(INSTALLED) ## only the set-up (about 5 GB: torch comes with its CUDA libraries)

.PHONY: clean
clean: ## remove caches and builds; keeps .venv and runs
	rm -rf build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# The stamp is written last, so an installation that broke off is taken up again.
$(INSTALLED): pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is needed and none was found on the PATH." >&2; \
		echo "Install one, or name it: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "Installing into $(VENV): about 5 GB the first time, nothing the next."
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
