# make demo   set up, then optimize the embedded model and print the report
# make test   set up with the dev extra, then run the test suite
# make commands   run every command that README and docs show
# make benchmarks  bring models and other tools, measure every suite, write the report:
#             hours, minutes with QUICK=--quick
# make mutants  flip each side condition of the PASSES, and count what tests, laws and validator notice
# make fuzz   hold all passes to their laws on random models for MINUTES, then damage files for FILE_MINUTES;
#             what fails is reduced in build/fuzz, and a second call goes on where the first stopped
#
# All that is needed is Python 3.11 or newer with pip. pip's own configuration (PIP_INDEX_URL,
# pip.conf, ...) is left alone and applies. Variables: PYTHON, VENV, PYTEST_ARGS, MINUTES, FILE_MINUTES, SEEDS, PASSES,
# KEPT (where benchmarks keep models and other tools), QUICK, RESULTS, RUN_ARGS, REPORT_ARGS.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
PYTEST_ARGS ?=
MINUTES ?= 60
FILE_MINUTES ?= 5
SEEDS ?= 0:1000000
KEPT ?=
QUICK ?=
RESULTS ?= build/benchmarks/results$(QUICK:--%=-%).jsonl
RUN_ARGS ?=
REPORT_ARGS ?=
PASSES ?= eliminate,fold,fuse,layout,convert,tidy,perturb,quantize,prune,distill

BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

.PHONY: demo test commands benchmarks fuzz mutants setup setup-dev lint types clean
.DEFAULT_GOAL := demo

demo: setup
	$(BIN)/graphopt demo

test: setup-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

commands: setup-dev
	$(BIN)/python -m pytest tests/site -m site $(PYTEST_ARGS)

# What cannot be brought is said, and left out. A second call goes on where the first stopped.
benchmarks: setup-dev
	-$(BIN)/python -m benchmarks fetch --peers $(KEPT:%=--to %)
	$(BIN)/python -m benchmarks run $(KEPT:%=--from %) --out $(RESULTS) --resume $(QUICK) $(RUN_ARGS)
	$(BIN)/python -m benchmarks report $(RESULTS) --html $(RESULTS:.jsonl=.html) $(REPORT_ARGS)

fuzz: setup-dev
	mkdir -p build/fuzz
	$(BIN)/python -m graphopt.testing.fuzz --seeds $(SEEDS) --minutes $(MINUTES) \
		--save build/fuzz --state build/fuzz/state.json
	$(BIN)/python -m graphopt.testing.fuzz.files --seeds $(SEEDS) --minutes $(FILE_MINUTES) --save build/fuzz/files

# What build/mutants.json holds already is not tried again: so it goes on where it stopped.
mutants: setup-dev
	@mkdir -p build
	$(BIN)/python -m graphopt.testing.mutation --passes $(PASSES) --json build/mutants.json --markdown build/mutants.md

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist

setup: $(READY)
setup-dev: $(READY_DEV)

# The stamps make a second call quick; they are out of date when pyproject.toml is newer.
$(READY): pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(READY_DEV): pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(READY)

# A link to an interpreter that is gone counts as missing, and then the environment is made anew.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found: install one, or name it with make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is no Python 3.11 or newer: name one with make PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
