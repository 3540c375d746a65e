# `make` lists the targets. Every target that needs the environment makes it first, once.

STUDY ?= demo
JOBS ?=
TRAIN ?= yes
PROFILE ?=
RUNS_PER_GPU ?=
NAME ?=
ARCHIVE ?=
BENCHMARKS ?=
STRESS ?= kills power inputs scores soak
SHARE ?= 1
# The Python to build on: the first of these that is 3.11 or newer; name another with `make setup PYTHON=...`.
PYTHON = $(shell for python in python3.11 python3.12 python3.13 python3; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

# The shell reads these from its environment, where a quote or a space in them is a character like any other.
export STUDY JOBS PROFILE RUNS_PER_GPU NAME ARCHIVE
# Python keeps what it compiles, or each of many processes would compile it again.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
STAMP := .venv/.setup-stamp
UV_VERSION := 0.13.8
UV = $(BIN)/uv
IQA = $(BIN)/python -m iqa.app.cli
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup report rehearse why publish fetch table gallery test test-fast bench stress fixture lint lab lock clean

help: ## list the targets
	@awk -F ' *## *' '/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); printf "make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make the environment in .venv from requirements.lock (needs Python >= 3.11 and nothing else)

report: $(STAMP) ## run what is out of date of a study and render its report (STUDY=demo; JOBS=cores; TRAIN=no; PROFILE=slurm)
	@$(IQA) report "$$STUDY" $${JOBS:+--jobs "$$JOBS"} $(if $(filter no,$(TRAIN)),--no-train) \
		$${PROFILE:+--profile "$$PROFILE"} $${RUNS_PER_GPU:+--runs-per-gpu "$$RUNS_PER_GPU"}

why: $(STAMP) ## say which runs of a study are out of date, and why (STUDY=demo)
	@$(IQA) why "$$STUDY"

rehearse: $(STAMP) ## try a study with stand-ins for its images and networks, and forecast its cost (STUDY=demo)
	@$(IQA) rehearse "$$STUDY" $${JOBS:+--jobs "$$JOBS"}

publish: $(STAMP) ## pack a study's report, parameters, results and best models into one archive for Zenodo (STUDY=demo)
	@$(IQA) publish "$$STUDY"

fetch: $(STAMP) ## put the results of an archive that others published in place (ARCHIVE=file)
	@$(IQA) fetch "$$ARCHIVE"

table: $(STAMP) ## make one table of a report as CSV, Markdown and LaTeX (NAME=ablation/main; without: the names)
	@$(IQA) table $${NAME:+"$$NAME"} --study "$$STUDY"

gallery: $(STAMP) ## write the executed notebooks of a study as HTML pages that need no network (STUDY=demo)
	@$(BIN)/python -m iqa.report.pages "$$STUDY"

test: $(STAMP) ## run all tests
	@$(PYTEST)

test-fast: $(STAMP) ## run the tests that are not marked slow
	@$(PYTEST) -m "not slow"

bench: $(STAMP) ## measure speed into benchmarks/out, and tell what became slower (16 minutes; leave the machine alone)
	@$(BIN)/python -m benchmarks $(BENCHMARKS)

stress: $(STAMP) ## kill runs, damage files, give bad inputs, soak; into stress/out (20 minutes; STRESS="kills inputs"; SHARE=0.1)
	@$(BIN)/python -m stress $(STRESS) --share $(SHARE)

fixture: $(STAMP) ## run the study smoke and renew the results that tests start from, tests/smoke_results
	$(BIN)/python tests/finished.py

lint: $(STAMP) ## check style and form of code and notebooks, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb

lab: $(STAMP) ## open the notebooks in JupyterLab (which asks the network for nothing)
	$(BIN)/jupyter lab --ServerApp.root_dir="$$PWD" --LabApp.default_url=/lab/tree/notebooks \
		--LabApp.app_settings_dir="$$PWD/.jupyter" $(if $(filter 0,$(shell id -u)),--allow-root)

lock: $(STAMP) ## write requirements.lock anew after a change of the dependencies in pyproject.toml
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--group dev pyproject.toml -o requirements.lock

clean: ## remove results, rendered reports and caches; keep the environment
	rm -rf results/*/ report/*/ cache benchmarks/out stress/out .snakemake .pytest_cache .ruff_cache
	find iqa tests -name __pycache__ -prune -exec rm -rf {} +

# An environment without its stamp was left half-finished, and is made anew.
# uv is told which environment to use, because an activated one would otherwise win.
$(STAMP): requirements.lock pyproject.toml
	@python="$(PYTHON)"; test -n "$$python" || { \
		echo "make: no Python 3.11 or newer found; install it, or name it: make setup PYTHON=/path/to/python" >&2; exit 1; }; \
	test -e $@ || $$python -m venv --clear .venv || { rm -rf .venv; \
		echo "make: $$python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@rm -f $@
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(UV) pip sync --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --python $(BIN)/python --quiet --no-deps -e .
	@echo "compiling what is used of it"
	@$(BIN)/python -c "import pytest, snakemake.cli; from iqa.app import warm; warm.load(); import os; os._exit(0)"
	@touch $@
