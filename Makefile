# Everything a fresh machine needs is set up by the command itself; only Python 3.11 or newer, gcc and make must be there.
#   make demo        12 models x 3 tasks, small: trains 36 cells and writes results/demo/combined_report.md
#   make test        ruff, mypy and the tests (EXTRAS=gpu also installs what the GPU tests need)
#   make test-full   the same with the long tests
#   make bench       gates on speed: ratios, a minute; `python benchmarks/bench.py` measures the machine
#   make lint        ruff, mypy and snakefmt
#   make lock        requirements.lock anew, with the newest versions (needs uv)

PYTHON ?= python3
EXTRAS ?=

comma := ,
BIN := .venv/bin
STAMP := .venv/installed$(addprefix -,$(EXTRAS))
# One thread a process: cells and tests run side by side, one a core.
export OMP_NUM_THREADS := 1

# uv where it is there, else pip.
UV := $(shell command -v uv)
VENV := $(if $(UV),$(UV) venv -q --seed --allow-existing --python $(PYTHON),$(PYTHON) -m venv)
INSTALL := $(if $(UV),$(UV) pip install -q --python $(BIN)/python,$(BIN)/pip install -q --disable-pip-version-check)

.PHONY: help demo test test-full bench lint lock setup

help:
	@sed -n '2,7s/^# *//p' Makefile

demo: $(STAMP)
	@echo "Training 36 small cells and a report: about 4 minutes on two idle cores. What is there already is not made again."
	@$(BIN)/snakemake --profile profiles/local --configfile workflow/studies/demo.yaml --quiet host reason
	@echo "The report: results/demo/combined_report.md (also .html)"
	@echo "To go on by hand, activate the environment first:  . .venv/bin/activate"
	@echo "then for example:  snakemake -n"

# The same random inputs every time, so that a change fails for what it changed; `test-full` looks for new ones.
test: lint
	$(BIN)/pytest -n 2 -q -m "not full" --hypothesis-profile=ci

test-full: lint
	$(BIN)/pytest -n 2 -q
	$(BIN)/pytest -q benchmarks

bench: $(STAMP)
	$(BIN)/pytest -q benchmarks

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy src
	$(BIN)/snakefmt --check Snakefile workflow

# Newest versions, one for all Pythons, with the hashes of every system's files; without torch, whose build each machine
# chooses by itself.
lock: $(STAMP)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --no-header --fork-strategy fewest -c requirements-torch.lock > .venv/resolved
	(grep '^#' requirements.lock; awk '/^[a-z]/ {drop = /^(torch|triton|nvidia-.*|cuda-.*)==/} !drop' .venv/resolved) \
	    > .venv/lock
	mv .venv/lock requirements.lock

setup: $(STAMP)

# The stamp is written last, so an installation that broke off is taken up again.
$(STAMP): pyproject.toml requirements.lock requirements-torch.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "Installing into .venv, once: about 2 GB, most of it PyTorch with its GPU libraries. Silent for some minutes."
	@test -x $(BIN)/$(if $(UV),python,pip) || $(VENV) .venv
	@$(INSTALL) --require-hashes --no-deps -r requirements.lock
	@$(INSTALL) -e '.[test$(addprefix $(comma),$(EXTRAS))]' -c requirements-torch.lock
	@touch $@
