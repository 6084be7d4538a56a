# make book, make test: each makes its own environment from requirements.lock and does its job.
# Needs make and Python 3.11 or newer, nothing else.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check -q

# A misspelt variable would be ignored in silence: make book PRESTE=quick.
KNOWN := PYTHON PRESET CONCEPT MODEL SEED DEVICE
GIVEN := $(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(firstword $(subst =, ,$(word)))))
UNKNOWN := $(filter-out $(KNOWN),$(GIVEN))
ifneq ($(strip $(UNKNOWN)),)
$(error $(UNKNOWN) is not a variable of this Makefile: it knows $(KNOWN))
endif

CHOICES := $(if $(PRESET),--preset '$(PRESET)') $(if $(CONCEPT),--concept '$(CONCEPT)') \
  $(if $(MODEL),--model '$(MODEL)') $(if $(SEED),--seed '$(SEED)') $(if $(DEVICE),--device '$(DEVICE)')

.PHONY: help book test bench records environment lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 14
	@echo 'Variables: PRESET=quick|book|paper CONCEPT=bird|dog|... MODEL= SEED= DEVICE= PYTHON='

book: $(READY)  ## run the chapters and build _build/html/index.html
	@$(RUN) -m cdlib.book $(CHOICES)

# A worker a core, a thread a worker: two threads each would wait for one another.
test: $(READY)  ## run every test
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile

bench: $(READY)  ## measure what the library is faster than, into _build/bench.json
	@$(RUN) -m cdlib.bench

records: $(READY)  ## measure what is too long for a build: the model's gates, then all concepts
	@$(RUN) -m cdlib.pocket.gates --json cdlib/pocket/weights/gates.json
	@$(RUN) -m cdlib.pocket.card
	@$(RUN) -m cdlib.records

environment: $(READY)  ## make the environment and stop

# Editable and without build isolation: the locked setuptools builds, nothing unpinned is fetched.
# Node comes with the environment; what the pages run in a browser comes from web/package-lock.json.
$(READY): requirements.lock pyproject.toml web/package-lock.json
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo 'making the environment in $(VENV) (minutes, once)'
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm ci --prefix web --silent
	@touch $(READY)

# torch is pinned without its build tag, so that each machine gets the build that suits it.
lock:  ## resolve pyproject.toml anew into requirements.lock
	@rm -rf _build/lock && $(PYTHON) -m venv _build/lock
	@_build/lock/bin/python -m pip --disable-pip-version-check -q install '.[book,test]'
	@_build/lock/bin/python -m pip --disable-pip-version-check freeze --all \
	  --exclude pip --exclude concept-distillation-book \
	  | grep -vE '^(nvidia-|cuda-|triton)' | sed -E 's/\+[a-z0-9.]+$$//' > _build/lock/requirements
	@mv _build/lock/requirements requirements.lock
	@rm -rf _build/lock build

clean:  ## leave the tree as cloned: environment, build and training runs go
	@rm -rf $(VENV) web/node_modules _build build runs *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -path ./.git -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print \
	  | xargs rm -rf
