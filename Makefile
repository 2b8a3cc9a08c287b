# What a person types. Each command sets up what it needs and asks nothing; ARGS goes on to what it runs.
#
#   make run        set everything up and serve: prints the settings to paste, and sends one test message
#   make test       install what the tests run against, and run them all
#   make check      style, types and layers, without running anything
#   make lint       style alone
#   make faults     faults under load with a ledger of every message (as root; ARGS=--short for some minutes, else an hour or two)
#   make bench      measure Relay beside Postfix and Haraka (as root; 20 minutes; ARGS=--short for a minute's look)
#   make growth     what a message costs Relay as queue, sites, sizes, sessions grow (25 minutes; ARGS=--quick for some)
#   make lock       pin the dependencies anew (requirements*.lock)
#   make clean      remove what was made here, but neither config/ nor spool/

SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP := $(VENV)/bin/pip --quiet --quiet --disable-pip-version-check --no-input
# Most of a test is waiting.
JOBS ?= $(shell expr 2 \* $$(nproc))

.PHONY: run test check lint types layers faults bench growth lock peers clean
.DEFAULT_GOAL := test

run: $(VENV)/runtime.stamp
	@exec $(VENV)/bin/relay --config config/relay.toml quickstart $(ARGS)

# What measures time or memory runs first and alone; the rest then shares the cores. 5 is pytest's "no tests": ARGS may choose
# some that are all of one kind.
test: peers $(VENV)/dev.stamp
	@$(VENV)/bin/python -m pytest -m alone $(ARGS); alone=$$?; \
	$(VENV)/bin/python -m pytest -m "not alone" -n $(JOBS) $(ARGS); rest=$$?; \
	case $$alone.$$rest in 0.0|0.5|5.0) ;; *) exit 1 ;; esac

check: lint types layers

lint: $(VENV)/dev.stamp
	@$(VENV)/bin/ruff check .

types: $(VENV)/dev.stamp
	@$(VENV)/bin/mypy

layers: $(VENV)/dev.stamp
	@$(VENV)/bin/lint-imports --no-logo

peers:
	@tests/install-peers

faults: peers $(VENV)/dev.stamp
	@$(VENV)/bin/python -m tests.faults.run $(ARGS)

bench: peers $(VENV)/dev.stamp
	@$(VENV)/bin/python -m tests.bench.bench $(ARGS)

growth: peers $(VENV)/dev.stamp
	@$(VENV)/bin/python -m tests.bench.growth $(ARGS)

# Three locks: what runs Relay, what builds it (dkimpy too, which comes as source only), and what develops and tests it.
PIN := $(VENV)/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-options --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock: $(VENV)/dev.stamp
	$(PIN) $(ARGS) --output-file requirements.lock pyproject.toml
	$(PIN) $(ARGS) --only-build-deps --build-deps-for wheel --build-deps-for editable --output-file requirements-build.lock pyproject.toml
	$(PIN) $(ARGS) --extra dev --constraint requirements.lock --constraint requirements-build.lock \
		--output-file requirements-dev.lock pyproject.toml

clean:
	rm -rf $(VENV) .peers .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build

# Debian's Python comes without what makes a venv; root gets it, anyone else is told.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Relay needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || tests/install-peers python3-venv
	@$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements.lock requirements-build.lock pyproject.toml | $(VENV)/bin/pip
	@echo "installing Relay into $(VENV)"
	@$(PIP) install --require-hashes --no-deps --requirement requirements-build.lock
	@$(PIP) install --require-hashes --no-deps --no-build-isolation --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/runtime.stamp
	@echo "installing what the tests need into $(VENV)"
	@$(PIP) install --require-hashes --no-deps --no-build-isolation --requirement requirements-dev.lock
	@touch $@
