# Two commands: `make demo` and `make test`. Both make .venv first where it is missing.

PYTHON ?= python3
BIN := .venv/bin
# One thread a process: the demo trains two networks side by side, the tests run in two workers.
export OMP_NUM_THREADS ?= 1

# A file in tests/slow is a part: `make slow-memory` runs one and prints its figures, `make test-slow` all of them.
SLOW := $(patsubst tests/slow/test_%.py,slow-%,$(wildcard tests/slow/test_*.py))

.PHONY: help demo test lint types imports unit test-integrations test-slow $(SLOW) bench bench-history lock sbom vendor notebooks clean

help:
	@echo "make demo       train the paper's network on the MNIST sample, draw its figures (about 7 minutes on 2 cores, after set-up)"
	@echo "make test       lint, types, import rules and the test suite"
	@echo "make test-integrations  the tests of what attaches to trainers and writes to trackers, with all of these installed"
	@echo "make test-slow  the tests that take minutes each: $(SLOW)"
	@echo "make bench      the benchmarks, beside other tools (about 25 minutes)"
	@echo "make bench-history  time the kernels beside references, keep times and ratios, show the last sessions"
	@echo "make notebooks  execute the notebooks and keep their outputs (about 4 minutes); NOTEBOOKS=--check writes nothing"
	@echo "make docs       the site, into out/docs; its examples are run. make docs-links: are the pages of others there?"
	@echo "make lock       bring constraints.txt up to date with pyproject.toml"
	@echo "make vendor     fetch the report's JavaScript anew, make sbom: write the bill of materials"
	@echo "make clean      remove .venv and .venv-integrations, caches and the demo's output"

# What is installed is what the lock names, by version and hash. First pip itself, the build backend and uv; then what
# dropdiag asks for, as files that are built already (a build would download its tools without a hash); then dropdiag.
pip = $(1)/bin/pip --quiet --disable-pip-version-check
%/.bootstrap: .ci/supply/bootstrap.txt
	$(PYTHON) -m venv $*
	$(call pip,$*) install --require-hashes --only-binary :all: --requirement .ci/supply/bootstrap.txt
	touch $@

# In an environment, what some extras ask for.
define install
	$(1)/bin/python .ci/supply/direct.py $(2) > $(1)/direct.txt
	$(call pip,$(1)) install --require-hashes --only-binary :all: --constraint constraints.txt --requirement $(1)/direct.txt
	$(call pip,$(1)) install --no-deps --no-build-isolation --editable .
	$(call pip,$(1)) check
endef

.venv/.installed: .venv/.bootstrap pyproject.toml constraints.txt $(wildcard dropdiag/sketches/*.[ch])
	$(call install,.venv,dev)
	touch $@

# Brings the lock up to date with pyproject.toml; LOCK='--upgrade-package NAME' or LOCK=--upgrade takes newer versions.
lock: .venv/.bootstrap
	$(BIN)/python .ci/supply/relock.py $(LOCK)

# Fetches the report's JavaScript anew; VENDOR=NAME@VERSION another version of it.
vendor:
	$(PYTHON) .ci/supply/vendored.py $(VENDOR)

# The bill of materials: what the lock and the report's vendor folder name, as CycloneDX.
sbom: .venv/.bootstrap
	$(BIN)/python .ci/supply/sbom.py out/sbom.cdx.json

demo: .venv/.installed
	env -u DROPDIAG_DATA $(BIN)/dropdiag reproduce --seeds 3 --epochs 20 --measurements 4 --out out/demo

test: lint types imports unit

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed
	$(BIN)/mypy

imports: .venv/.installed
	$(BIN)/lint-imports

# Trainers and trackers are tried in an environment of their own, below.
ATTACHED := tests/integrations/trainers tests/integrations/sinks
unit: .venv/.installed
	$(BIN)/pytest -n 2 $(addprefix --ignore=,$(ATTACHED))

.venv-integrations/.installed: .venv-integrations/.bootstrap pyproject.toml constraints.txt $(wildcard dropdiag/sketches/*.[ch])
	$(call install,.venv-integrations,integrations)
	touch $@

# What the tests of all else need is not installed there, so their conftest.py is left alone.
test-integrations: .venv-integrations/.installed
	.venv-integrations/bin/pytest -n 2 --confcutdir=tests/integrations $(wildcard $(ATTACHED))

test-slow: $(SLOW)

$(SLOW): slow-%: .venv/.installed
	$(BIN)/pytest -m slow -rP tests/slow/test_$*.py

slow-package: .venv/.installed-package
.venv/.installed-package: .venv/.installed
	$(call install,.venv,dev package)
	touch $@

.venv/.installed-bench: .venv/.installed
	$(call install,.venv,dev bench)
	touch $@

# On all cores: what is measured is training as people run it.
MEASURE := env -u OMP_NUM_THREADS $(BIN)/python
bench: .venv/.installed-bench
	$(MEASURE) benchmarks/histogram.py
	$(MEASURE) benchmarks/overhead.py --evaluation --memory
	$(MEASURE) benchmarks/parts_of_a_step.py
	$(MEASURE) benchmarks/store.py
	$(MEASURE) benchmarks/compare.py
	$(MEASURE) benchmarks/sites.py
	$(MEASURE) benchmarks/gpu.py --page docs/gpu.md

.venv/.installed-docs: .venv/.installed
	$(call install,.venv,dev docs integrations)
	touch $@

# The site, into out/docs/index.html: a warning, a link to a page or heading that is not there, and an example that does
# not run are errors. It needs no network; `make docs-links` asks for every page of others that is linked to.
.PHONY: docs docs-links
SPHINX := $(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet -d out/docs-read
docs: .venv/.installed-docs
	$(SPHINX) -b html docs out/docs
	$(BIN)/pytest -n 2 docs/checks

docs-links: .venv/.installed-docs
	$(SPHINX) -b linkcheck docs out/docs-links

bench-history: .venv/.installed-bench
	$(BIN)/pytest benchmarks/bench_kernels.py --override-ini python_files='bench_*.py' --override-ini addopts= \
		--benchmark-autosave $(if $(wildcard .benchmarks/*),--benchmark-compare)
	$(BIN)/python benchmarks/history.py

.venv/.installed-notebooks: .venv/.installed
	$(call install,.venv,dev notebooks)
	touch $@

# NOTEBOOKS=--check fails on what does not run, warns or is outdated; NOTEBOOKS=04-why executes that one alone.
notebooks: .venv/.installed-notebooks
	$(BIN)/python .ci/notebooks.py $(NOTEBOOKS)
	$(BIN)/pytest tests/test_notebooks.py

clean:
	rm -rf .venv .venv-integrations .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache out/demo
