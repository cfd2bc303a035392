# Everything a fresh clone needs; `make` alone lists the targets. Only python3 (3.11 or newer) and make have to be there.

VENV := .venv
BIN := $(VENV)/bin
# A module is compiled when it is imported first, not all of them at once.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --no-compile
export PYTHONNOUSERSITE := 1
# Hundreds of processes that tests start would each compile the package again.
export PYTHONDONTWRITEBYTECODE :=

# What a user has, what tests need on top of it, and what a developer has on top of that.
RUNTIME := $(VENV)/.runtime-installed
TESTING := $(VENV)/.testing-installed
DEVELOPMENT := $(VENV)/.development-installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo kafka flights delays test ray lint types format check bench reliability dist lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUNTIME) ## run the bundled job on January's flights (ARGS="--mode batch")
	@$(BIN)/streamflow demo $(ARGS)

kafka: $(RUNTIME) ## run a Kafka broker until Ctrl-C: Java and Maven, no Docker (ARGS="--port 19092")
	@$(BIN)/python -m deploy.kafka $(ARGS)

flights: $(RUNTIME) ## play January's flights into a topic, and show what `make delays` makes of them
	@$(BIN)/streamflow run examples/kafka/flights.py --mode streaming $(ARGS)

delays: $(RUNTIME) ## the job from topic to topic, exactly once; end it and start it again
	@$(BIN)/streamflow run examples/kafka/delays.py --mode streaming \
		--checkpoint-dir kafka-data/delays --checkpoint-interval 500ms $(ARGS)

# Polars keeps memory that is free: giving it back and taking it again is a tenth of the tests' processor time.
test: export _RJEM_MALLOC_CONF := dirty_decay_ms:-1,muzzy_decay_ms:-1
test: $(TESTING) ## run every test, doctest and architecture check (ARGS="-k session")
	@$(BIN)/pytest $(or $(ARGS),$(ALL_TESTS))

# All of them side by side, on two processes more than there are cores: those that meet Kafka or other processes mostly wait.
# A file's tests stay together, since they share what they start; in their order, so that the short ones come last and no
# process is left to wait for a long one.
# Only one of the processes has Polars' threads: those of several would mostly wait for one another.
OTHERS := $(shell python3 -c 'import os; print(min(3, len(os.sched_getaffinity(0)) + 1))' 2>/dev/null || echo 1)
ALL_TESTS := --tx=popen --tx='$(OTHERS)*popen//env:POLARS_MAX_THREADS=1' --dist=loadfile --no-loadscope-reorder

ray: $(DEVELOPMENT) ## run the tests that start Ray, which make test goes without
	@$(BIN)/pytest tests/ray $(ARGS)

lint: $(DEVELOPMENT) ## check style, formatting and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(DEVELOPMENT) ## check types with mypy and pyright, both strict
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(DEVELOPMENT) ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types ## lint and types

bench: $(DEVELOPMENT) ## measure against the peers that are installed (ARGS="W1 --events 5000000")
	@$(BIN)/streamflow bench $(ARGS)

reliability: $(DEVELOPMENT) ## kill, damage and starve real jobs, more than an hour (ARGS="kafka --quick")
	@$(BIN)/python -m reliability $(ARGS)

dist: $(DEVELOPMENT) ## build sdist and wheel, install the wheel into an empty environment, run the demo there
	@sh .ci/dist "$(CURDIR)/$(BIN)/python"

lock: ## resolve the lock files again (needs uv; UPGRADE=--upgrade for newer versions)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 2; }
	uv pip compile $(LOCK) pyproject.toml -o requirements.lock
	uv pip compile $(LOCK) --group build -c requirements.lock -o requirements-build.lock
	uv pip compile $(LOCK) pyproject.toml $(TESTED) --group test -c requirements.lock -o requirements-test.lock
	uv pip compile $(LOCK) pyproject.toml --all-extras --group dev --group bench \
		-c requirements-test.lock -c requirements-build.lock -o requirements-dev.lock

# Ray is as large as all the rest: developers have it, `make test` goes without.
TESTED := --extra avro --extra confluent --extra processes --extra transcripts
LOCK := --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-annotate \
	--custom-compile-command "make lock" $(UPGRADE)

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) build dist src/*.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. A stamp says what is installed, so that the second call has nothing to do.

$(BIN)/python:
	@python=$$(sh .ci/find-python) && echo "making $(VENV) with $$python (once)" >&2 && "$$python" -m venv $(VENV)

$(RUNTIME): requirements.lock requirements-build.lock pyproject.toml | $(BIN)/python
	@echo "installing streamflow and its dependencies into $(VENV) (once, about a minute)" >&2
	@$(INSTALL) --require-hashes -r requirements-build.lock
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(TESTING): requirements-test.lock $(RUNTIME) | $(BIN)/python
	@echo "installing what the tests need into $(VENV) (once, half a minute)" >&2
	@$(INSTALL) --require-hashes -r requirements-test.lock
	@touch $@

$(DEVELOPMENT): requirements-dev.lock $(TESTING) | $(BIN)/python
	@echo "installing the tools for developers into $(VENV) (once, half a minute)" >&2
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@
