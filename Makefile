# Postroad from a checkout. `make` alone tells what there is.
#
# The work is done by the scripts in tools/: each says in its header what it owns.

UV ?= uv
UPGRADE ?=
SEEDS ?= 1000
JOBS ?= $(shell nproc)
SUM ?=
SCENARIO ?=
SOAK ?=
ROUNDS ?= 3
COUNT ?=
PYTHON_BIN = .venv/bin/python

.PHONY: help run test check world soak sim bench bench-build fresh requirements clean

help:
	@echo 'make run           set up what is needed and start the sandbox (127.0.0.1:2525, mail ends in ./postroad-data/mail)'
	@echo 'make test          set up what is needed and run everything that CI runs; as root, or with WORLD=0'
	@echo 'make check         the static checks and the tests that need no other mail servers'
	@echo 'make world         only the tests against real mail servers (root)'
	@echo 'make soak          the tests that take long (root; SOAK=real or SOAK=million: only these)'
	@echo 'make sim           the relay in a simulated world: so many stories with crashes and faults, judged (SUM=file: add up)'
	@echo 'make bench         against Postfix, a quarter of an hour, root (SCENARIO=name,name or all; ROUNDS=3; docs/performance.md)'
	@echo 'make fresh         install and run in a new, minimal Debian 12, as root and as a user (root, some minutes)'
	@echo 'make requirements  compile requirements/*.txt anew (needs uv; UPGRADE=--upgrade for newer versions)'
	@echo 'make clean         remove the environment and what the tools cached (never ./postroad-data)'

run:
	@tools/setup run
	@exec .venv/bin/postroad serve

test:
	@tools/setup test
	@$(PYTHON_BIN) tools/test.py

check:
	@tools/setup test
	@$(PYTHON_BIN) tools/test.py --quick

world:
	@tools/setup test
	@$(PYTHON_BIN) tools/test.py world

soak:
	@tools/setup test
	@$(PYTHON_BIN) tools/test.py soak $(SOAK)

sim:
	@tools/setup test
	@$(PYTHON_BIN) -m postroad.testing.sim run 1-$(SEEDS) --jobs $(JOBS) $(if $(SUM),--sum $(SUM))

bench:
	@tools/setup test
	@$(PYTHON_BIN) -m bench --rounds $(ROUNDS) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(COUNT),--count $(COUNT))

# What `make bench` compiles by itself; here for who wants only the generator and the sink (bench/build).
bench-build:
	@tools/setup test
	@$(PYTHON_BIN) -m bench --build

fresh:
	@tools/fresh

# Later files stay with what the earlier ones chose, since all three are installed together. --universal: one file for
# Python 3.11 and newer. No header and no index address: the files say what, never where from.
COMPILE = $(UV) pip compile $(UPGRADE) --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate
requirements:
	$(COMPILE) requirements/run.in -o requirements/run.txt
	$(COMPILE) -c requirements/run.txt requirements/build.in -o requirements/build.txt
	$(COMPILE) -c requirements/run.txt -c requirements/build.txt requirements/test.in -o requirements/test.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
