# Needs git, make and Python 3.11 to 3.13; everything else goes into .venv.
# Another Python: make train PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
METADATA := setup.cfg pyproject.toml
RUNS ?= runs/first

.PHONY: help train test check format bench build clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: $(VENV)/.with-video  ## install, then train, evaluate and render a DQN on CartPole-v1
	$(BIN)/rlkit train dqn --env CartPole-v1 --run-dir $(RUNS)
	$(BIN)/rlkit evaluate $(RUNS) --episodes 100
	$(BIN)/rlkit render $(RUNS)

test: check  ## every check, then every test
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 40 $(PYTEST_ARGS)

check: $(VENV)/.with-dev  ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.with-dev  ## rewrite the code as the checks want it
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/.with-bench  ## timings against other libraries
	@for file in experiments/benchmarks/[!_]*.py; do \
	    test -e "$$file" || { echo "experiments/benchmarks holds no benchmark yet"; exit 0; }; \
	    name=$$(basename "$$file" .py); \
	    $(BIN)/python -m "rlkit.experiments.benchmarks.$$name" || exit 1; \
	done

build: $(VENV)/.with-dev  ## the wheel and the source archive, in dist/
	@rm -rf build dist
	$(BIN)/python -m build --no-isolation

clean:  ## remove what make made, but not runs/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
	find $(wildcard rlkit envs agents experiments tests) -name __pycache__ -prune -exec rm -rf {} +

# One stamp an extra: pip runs again only when the package's metadata has changed.
$(VENV)/.with-%: $(METADATA) | $(BIN)/pip
	@echo "Installing rlkit[$*] in $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	    echo "rlkit needs Python 3.11, 3.12 or 3.13, and PYTHON=$(PYTHON) is not one:" \
	        "name another, as in make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
	    echo "$(PYTHON) cannot make a virtual environment: install its venv module" \
	        "(Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
