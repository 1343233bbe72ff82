# make demo   the whole loop on real inspection images, from nothing but Python, git and a package index
# make test   lint, types and tests
# make bench  bessemer beside its peers, into docs/performance.md; QUICK=1: tiny sizes, to see that everything runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/bessemer run recipes/solar.yaml

test: $(VENV)/installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/test

bench: $(VENV)/installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/bench

# The stamps are older than pyproject.toml when a dependency has changed; pip then does what is missing.
$(VENV)/installed: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --editable '.[dev,tensorboard]'
	touch $@

$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bessemer needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
