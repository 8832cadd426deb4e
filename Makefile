# Every target makes the virtual environment that it needs, from nothing, and leaves it alone while pyproject.toml and
# constraints.txt stand still. Further arguments for pytest: PYTEST_ADDOPTS="tests/nn -x" make test
PYTHON ?= python3
# The lowest versions come from years when the oldest Python that we support was new: there are wheels for that one.
LOWEST_PYTHON ?= python3.11
# Version of torch for `make lowest`: the floor of pyproject.toml, or one named here (make lowest TORCH=2.13.0). On Linux
# the usual index has old torch as a CUDA build only, with gigabytes of CUDA packages. TORCH_INDEX avoids them.
TORCH ?= floor
# Address of PyTorch's CPU index, as PyTorch's installation page has it. Where it is set, torch comes from there.
TORCH_INDEX ?=
# Further arguments for every `pip install`, such as another index.
PIP_EXTRA_ARGS ?=
# The tag that a release is built from. `make build` fails where it does not name the version in pyproject.toml.
TAG ?=
# Threads of the tests and the demo: their tables are too small to gain from a second one, and on a busy machine threads
# that wait for each other cost most of the time.
OMP_NUM_THREADS ?= 1
# Processes among which the tests are shared out.
WORKERS ?= 2
# Seconds that `make soak` takes.
SOAK_SECONDS ?= 600
# Seconds that `make fuzz` takes.
FUZZ_SECONDS ?= 3600
# The seed of its tries: another one makes other tries.
FUZZ_SEED ?= 1

# Where a virtual environment keeps its programs.
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
VENV := .venv
LOWEST := .venv-lowest
PRERELEASE := .venv-prerelease
BIN := $(VENV)/$(SCRIPTS)
# Written when an install has gone through, one for each set of packages: the demo needs little, development more.
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev
RELEASE := $(VENV)/.installed-release
# The site has an environment of its own: scanpy and anndata, which some pages call, ask for an older pandas.
DOCS_VENV := .venv-docs
DOCS_BIN := $(DOCS_VENV)/$(SCRIPTS)
DOCS_DONE := $(DOCS_VENV)/.installed
SITE := docs/_build/html
LOWEST_DONE := $(LOWEST)/.installed-torch-$(TORCH)

# $(call pip,VENV) installs into that environment.
pip = $(1)/$(SCRIPTS)/python -m pip --disable-pip-version-check install $(PIP_EXTRA_ARGS)
# $(call torch,VENV) installs torch from TORCH_INDEX, where that is set, before anything else asks for torch.
torch = $(if $(TORCH_INDEX),$(call pip,$(1)) --index-url $(TORCH_INDEX) -c constraints.txt torch)
# $(call pytest,VENV) runs the tests there. Dozens of them start processes: modules are compiled once, not in each of these.
pytest = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=$(OMP_NUM_THREADS) MPLBACKEND=Agg $(1)/$(SCRIPTS)/python -m pytest
# $(call supported,PYTHON) says what to do where that Python is too old, or none.
supported = $(1) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo 'skdevae needs Python 3.11 or newer, which "$(1)" is not. Name one: make PYTHON=python3.12' >&2; exit 1; }

INSTALL := $(call pip,$(VENV)) -c constraints.txt
PYTEST := $(call pytest,$(VENV))
PAGES := $(shell find README.md docs -name '*.md' -not -path 'docs/_build/*' -not -path 'docs/auto_examples/*')

.DEFAULT_GOAL := help
.PHONY: help demo test test-all scverse coverage portability portability-short lowest prerelease fuzz soak gpu doctest
.PHONY: docs docs-doctest docs-build docs-browser docs-serve benchmark-page lint types build clean
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO) ## run the example on tumour biomarkers; its figure goes to figures/
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/python examples/plot_tumour_biomarkers.py

test: $(DEV) ## run the tests and the package's doctests, slow ones on a few cases; prints the CPU-seconds that they took
	$(PYTEST) -n $(WORKERS) --dist loadfile

test-all: $(DEV) ## run all cases of all tests
	SKDEVAE_TEST_SLOW=1 $(PYTEST) -n $(WORKERS) --dist loadfile

coverage: $(DEV) ## run the tests and say which lines they reach; fails below the share that pyproject.toml asks for
	SKDEVAE_TEST_SLOW=1 $(PYTEST) -n $(WORKERS) --cov --cov-report=term:skip-covered

portability: $(DEV) ## run the numerical tests under other processors' kernels and other numbers of threads
	$(BIN)/python tools/portability.py --workers $(WORKERS)

portability-short: $(DEV) ## run some of them under one of these settings
	$(BIN)/python tools/portability.py --workers $(WORKERS) --short

lowest: $(LOWEST_DONE) ## run the tests with the lowest versions that pyproject.toml admits, in .venv-lowest
	$(call pytest,$(LOWEST)) -n $(WORKERS)

prerelease: ## run the tests with the newest pre-releases of what skdevae needs, in .venv-prerelease
	@$(call supported,$(PYTHON))
	$(PYTHON) -m venv --clear $(PRERELEASE)
	$(call torch,$(PRERELEASE))
	$(call pip,$(PRERELEASE)) --pre -c constraints.txt -e '.[test]'
	$(call pytest,$(PRERELEASE)) -n $(WORKERS)

fuzz: $(DEV) ## run odd tables through odd estimators for an hour (FUZZ_SECONDS), and print every way to break them
	SKDEVAE_FUZZ_SEED=$(FUZZ_SEED) SKDEVAE_FUZZ_SECONDS=$$(( $(FUZZ_SECONDS) * $(WORKERS) )) $(PYTEST) -n $(WORKERS) tests/fuzz

soak: $(DEV) ## mix fits, saves, threads, forks, faults and interrupts for ten minutes (SOAK_SECONDS), and print what came
	PYTHONPATH=tests OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/python -m faults.soak --seconds $(SOAK_SECONDS) --workers $(WORKERS)

gpu: $(DEV) ## compare a GPU with the CPU: tests of devices, results and times; says so where there is none
	$(BIN)/python benchmarks/gpu.py

doctest: $(DEV) ## run the package's doctests alone
	$(PYTEST) skdevae

docs: docs-doctest docs-build docs-browser ## build the site into docs/_build/html: its examples run, and a browser opens its pages

# numpydoc, which judges docstrings, is here only
docs-doctest: $(DOCS_DONE)
	$(call pytest,$(DOCS_VENV)) -q tests/house/test_examples_in_docstrings.py
	$(call pytest,$(DOCS_VENV)) -n $(WORKERS) --dist loadfile --doctest-glob='*.md' $(PAGES)

# The gallery is run here, as many examples at a time as there are WORKERS. Pages that are up to date are not built again.
docs-build: $(DOCS_DONE)
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) MPLBACKEND=Agg SKDEVAE_WORKERS=$(WORKERS) \
	  $(DOCS_BIN)/python -m sphinx -W --keep-going -b html docs $(SITE)

docs-browser: $(DOCS_DONE)
	SKDEVAE_SITE=$(SITE) $(call pytest,$(DOCS_VENV)) tests/site

docs-serve: docs-build ## build the site and show it at http://localhost:8000
	$(DOCS_BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) 8000

scverse: $(DOCS_DONE) ## run the tests of AnnData, with scanpy
	$(call pytest,$(DOCS_VENV)) -n $(WORKERS) tests/scverse skdevae/scverse

benchmark-page: $(DEV) ## write docs/benchmarks.md from benchmarks/results, which benchmarks/record.py keeps
	$(BIN)/python tools/benchmark_page.py

lint: $(DEV) ## check style and formatting
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check

types: $(DEV) ## check types
	$(BIN)/python -m mypy

build: $(RELEASE) ## build the source archive and the wheel into dist/, and check both
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tools/check_dist.py --tag '$(TAG)'

clean: ## remove caches, build products and figures, but no virtual environment
	rm -rf build dist figures docs/_build docs/auto_examples docs/api/generated docs/api/backreferences htmlcov .coverage *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@$(call supported,$(PYTHON))
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(DEMO): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(call torch,$(VENV))
	$(INSTALL) -e '.[plot,umap]'
	touch $@

$(DEV): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(call torch,$(VENV))
	$(INSTALL) -e '.[dev]'
	touch $(DEMO) $@

$(DOCS_DONE): pyproject.toml constraints.txt
	@$(call supported,$(PYTHON))
	$(PYTHON) -m venv $(DOCS_VENV) || { rm -rf $(DOCS_VENV); exit 1; }
	$(call torch,$(DOCS_VENV))
	$(call pip,$(DOCS_VENV)) -c constraints.txt -e '.[docs]'
	touch $@

$(RELEASE): pyproject.toml constraints.txt | $(DEV)
	$(INSTALL) -e '.[release]'
	touch $@

$(LOWEST_DONE): pyproject.toml tools/lowest_pins.py
	@$(call supported,$(LOWEST_PYTHON))
	$(LOWEST_PYTHON) -m venv --clear $(LOWEST)
	$(call pip,$(LOWEST)) packaging
	$(LOWEST)/$(SCRIPTS)/python tools/lowest_pins.py test $(if $(filter-out floor,$(TORCH)),--set torch=$(TORCH)) \
	  > $(LOWEST)/pins.txt
	$(if $(TORCH_INDEX),$(call pip,$(LOWEST)) --index-url $(TORCH_INDEX) "$$(grep '^torch==' $(LOWEST)/pins.txt)")
	$(call pip,$(LOWEST)) -r $(LOWEST)/pins.txt -e '.[test]'
	touch $@
