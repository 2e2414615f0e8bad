# Every target does all the set-up it needs, on a machine with make and python3 >= 3.11.
# `make up ARGS="--workers network=2"` hands options on.

.DEFAULT_GOAL := help
.PHONY: help demo up services test servers check bench sim machine chaos failpoints mutants lock clean base dev
MAKEFLAGS += --no-print-directory

# Bytecode is kept, whatever the shell says: six processes import the same modules at each start.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONSAFEPATH

PY := .venv/bin/python
ARGS ?=
# The first Python that will do; if none does, the last line's python3 says so itself, in one line.
INSTALL = for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && exec "$$python" requirements/install.py $@; \
	done; \
	command -v python3 >/dev/null && exec python3 -c 'import sys; sys.exit("agentsys: Python 3.11 or newer is needed, and python3 is " + sys.version.split()[0])'; \
	echo "agentsys: Python 3.11 or newer is needed, and there is no python3" >&2; exit 1

help:
	@echo "make demo     real goals, planned and executed before your eyes; leaves nothing running"
	@echo "make up       the same stack, stays up until Ctrl-C"
	@echo "make test     everything that proves the build"
	@echo "make check    lint, types, import contracts, missing migrations"
	@echo "make bench    the published workloads, with a report"
	@echo "make sim      histories drawn from seeds: make sim SEEDS=2000 FIRST=200"
	@echo "make failpoints  every fault at every statement and commit of every shape of run"
	@echo "make mutants  remove each guard in turn: a test must fail; with a table"
	@echo "make machine  people and workers against a model: make machine MACHINE_EXAMPLES=1000 MACHINE_SEED=5"
	@echo "make chaos    the fault scenarios, with a report"
	@echo "make services only PostgreSQL and Redis, for work on the code"
	@echo "make lock     compile requirements/*.in into locks with hashes"
	@echo "make clean    remove .venv and all data"

base dev:
	@$(INSTALL)

# exec, so that the stack is make's own child and ends with it (--with-parent).
demo: base
	@exec $(PY) manage.py demo --with-parent $(if $(MODEL),--model $(MODEL)) $(ARGS)

up: base
	@exec $(PY) manage.py up --with-parent $(ARGS)

services: base
	@exec $(PY) manage.py services $(ARGS)

# MCP servers of others, for tests to talk to; pinned, in .mcp.
servers: dev
	@$(PY) tests/mcp_servers/install.py

# Two processes; a file's tests stay together, because they share servers.
test: dev
	-@$(PY) tests/mcp_servers/install.py
	@exec $(PY) -m pytest -n 2 --dist loadfile -m "not bench" $(ARGS)

# No database is asked; a pool would wait a minute for the one of the last `make demo`.
check: export SECRET_KEY = only-for-static-checks
check: export AGENTSYS_DB_MODE = persistent
check: dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy agentsys workers
	$(PY) -c "from importlinter.cli import lint_imports_command as check; check()"
	$(PY) manage.py makemigrations --check --dry-run

bench: dev
	@exec $(PY) -m pytest -m bench -s $(ARGS)

machine: export MACHINE_EXAMPLES ?= 1000
machine: export MACHINE_SEED ?= 1
machine: dev
	@exec $(PY) -m pytest tests/machine $(ARGS)

sim: export SEEDS ?= 2000
sim: export FIRST ?= 200
sim: dev
	@exec $(PY) -m pytest tests/simulation -n 2 --dist load $(ARGS)

failpoints: export FAILPOINTS = all
failpoints: dev
	@exec $(PY) -m pytest tests/failpoints -n 2 --dist load $(ARGS)

mutants: dev
	@exec $(PY) -m tests.mutants $(ARGS)

# CHAOS=short (as in make test), long (ten minutes) or full.
chaos: export CHAOS ?= full
chaos: dev
	@exec $(PY) -m pytest -m chaos -s $(ARGS)

lock: dev
	@for name in bootstrap base dev; do \
	  (cd requirements && ../.venv/uv/bin/uv pip compile -q --upgrade --generate-hashes --universal \
	    --no-header --python-version 3.11 $$name.in -o $$name.txt) || exit 1; \
	done

clean:
	@rm -rf $$(cat .agentsys/data.location 2>/dev/null) .venv .agentsys .mcp
