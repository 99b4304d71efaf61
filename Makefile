# Two commands do everything on a machine with Python 3.11+, make and a package index:
#   make demo    train MARS on PaxMen, draw its learning curve and the trained team
#   make test    run the tests (lint and types are `make lint`; `.ci/run` does both)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fast faults lint bench docs dist lock clean

demo: $(VENV)/.installed
	$(BIN)/marsrl train

test: $(VENV)/.installed-test
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

test-fast: $(VENV)/.installed-test  ## those that take moments, two of three
	$(BIN)/pytest -n auto --dist worksteal -m "not slow" $(ARGS)

faults: $(VENV)/.installed-test  ## every kill and every damage of docs/reliability.md; about an hour
	FAULTS=all $(BIN)/pytest -n auto --dist loadfile tests/faults $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.installed-test  ## four tables of docs/speed.md, again; results in runs/
	$(BIN)/python benchmarks/training_speed.py --json runs/bench/training.json
	$(BIN)/python benchmarks/profile_loop.py --json runs/bench/profile.json
	$(BIN)/python benchmarks/env_speed.py --json runs/bench/environments.json
	$(BIN)/python benchmarks/reset_speed.py --json runs/bench/resets.json

docs: $(VENV)/.installed-test  ## the site, into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: $(VENV)/.installed-test  ## wheel and sdist, into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11+ is needed"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-dev.lock
	$(BIN)/pip install --quiet --requirement requirements-dev.lock
	touch $@

lock:  ## pins for every supported Python, from the bounds in pyproject.toml; needs uv
	uv pip compile --universal --quiet --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		pyproject.toml --output-file requirements.lock
	uv pip compile --universal --quiet --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		--extra dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) .cache site dist
