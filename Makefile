# Every target makes .venv itself, from nothing, and leaves it alone while pyproject.toml and constraints.txt stand still.
PYTHON ?= python3
# Threads of the tests and the demo: their tables are too small to gain from a second one, and on a busy machine threads
# that wait for each other cost most of the time.
OMP_NUM_THREADS ?= 1
# Processes among which the tests are shared out.
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
# Written when an install has gone through. One for the demo, which needs little, one for development, which needs more.
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev

INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
PYTEST := OMP_NUM_THREADS=$(OMP_NUM_THREADS) MPLBACKEND=Agg $(BIN)/python -m pytest
DOCS := $(wildcard README.md docs/*.md)

.DEFAULT_GOAL := help
.PHONY: help demo test doctest docs lint types clean
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO) ## run the example on tumour biomarkers; its figure goes to figures/
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/python examples/plot_tumour_biomarkers.py

test: $(DEV) ## run the tests and the package's doctests
	$(PYTEST) -n $(WORKERS)

doctest: $(DEV) ## run the package's doctests alone
	$(PYTEST) skdevae

docs: $(DEV) ## run the examples in README.md and docs/ (pytest's status 5: there are none, which is no failure)
	$(if $(DOCS),$(PYTEST) --doctest-glob='*.md' $(DOCS) || [ $$? -eq 5 ],@echo "no documents")

lint: $(DEV) ## check style and formatting
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check

types: $(DEV) ## check types
	$(BIN)/python -m mypy

clean: ## remove caches, build products and figures, but not .venv
	rm -rf build dist figures *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'skdevae needs Python 3.11 or newer, which "$(PYTHON)" is not. Name one: make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(DEMO): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[plot]'
	touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	touch $(DEMO) $@
