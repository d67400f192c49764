# Everything a developer runs. Each target prepares what it needs; nothing needs root.
# GNU make 3.81 (macOS) is enough.

SHELL  := /bin/sh
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   :=
# Much of a test's time is spent waiting, for a window or for what another process does: two processes for each core.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) '*' 2)
# The interpreter for a new .venv: `make venv PYTHON=/path/to/python3` overrides the search.
PYTHON :=
# What may not exist yet in an older checkout is left out of the checks.
CODE   := $(wildcard sao_events tests examples benchmarks)

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint fmt bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

venv: $(STAMP) ## the environment in .venv, from the pins in requirements/

$(STAMP): requirements/runtime.txt requirements/dev.txt pyproject.toml sao_events/__init__.py
	@set -e; \
	new_enough() { "$$@" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	if ! { [ -x $(BIN)/python ] && new_enough $(BIN)/python; }; then \
		found=; \
		for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
			if new_enough "$$python"; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "make: no Python 3.11 or newer with its venv module (tried: $(or $(PYTHON),python3.13 python3.12 python3.11 python3))." >&2; \
			echo "make: install one, on Debian and Ubuntu python3-venv beside it, or name it: make venv PYTHON=/path/to/python3" >&2; \
			exit 1; \
		fi; \
		echo "making $(VENV) with $$("$$found" --version)"; \
		"$$found" -m venv --clear $(VENV); \
	fi; \
	echo "installing the pinned packages into $(VENV)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements/dev.txt; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	$(BIN)/python -m pip check --disable-pip-version-check; \
	touch $(STAMP)

demo: $(STAMP) ## the service on the example project, with events arriving (ARGS=--exit ends it)
	@$(BIN)/python -m sao_events.demo $(ARGS)

test: lint ## all checks and all tests (ARGS="-m 'not slow'" goes to pytest)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 20 --durations-min 5 $(ARGS)

lint: $(STAMP) ## ruff and mypy, changes nothing
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)

fmt: $(STAMP) ## format the code and mend what ruff can mend safely
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(STAMP) ## lists the benchmarks; each is run by hand
	@found=; for file in benchmarks/*.py; do \
		case $$file in */_*|'benchmarks/*.py') continue;; esac; \
		found=1; \
		printf '  $(BIN)/python %-32s %s\n' "$$file" \
			"$$($(BIN)/python -c 'import ast, sys; print((ast.get_docstring(ast.parse(open(sys.argv[1]).read())) or "").partition("\n")[0])' "$$file")"; \
	done; \
	[ -n "$$found" ] || echo "there are no benchmarks in benchmarks/"

# With the oldest supported Python, so that what is pinned exists for all of them.
lock: ## pin the newest versions that pyproject.toml allows in requirements/
	@set -e; \
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(or $(PYTHON),python3.11) -m venv "$$scratch"; \
	freeze() { \
		"$$scratch/bin/python" -m pip freeze --exclude sao-events | tr '[:upper:]_' '[:lower:]-' | \
			sed "s/^uvloop==.*/&; sys_platform != 'win32'/" | LC_ALL=C sort -t = -k 1,1; \
	}; \
	"$$scratch/bin/python" -m pip install --quiet '.[dbt,sns]'; \
	freeze > "$$scratch/runtime"; \
	"$$scratch/bin/python" -m pip install --quiet '.[dev]'; \
	freeze | grep -vxFf "$$scratch/runtime" > "$$scratch/dev"; \
	{ head -n 1 requirements/runtime.txt; cat "$$scratch/runtime"; } > "$$scratch/runtime.txt"; \
	{ head -n 2 requirements/dev.txt; cat "$$scratch/dev"; } > "$$scratch/dev.txt"; \
	mv "$$scratch/runtime.txt" "$$scratch/dev.txt" requirements/

clean: ## remove the environment, caches and build output (.sao, your state, stays)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
