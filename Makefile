# Everything a contributor types. Bare `make` lists it.

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
PYTEST_ARGS ?=
TORTURE ?= 60
WORKERS ?= auto

BIN := $(VENV)/bin
READY := $(VENV)/.ready
PURE := edda/errors.py,edda/retry.py,edda/commands.py,edda/history.py,edda/codec.py,edda/divergence.py,edda/loop.py,edda/machine.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test torture fuzz docs lint format cover check wheel-test mutate river bench bench-peers clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  variables: PYTHON=$(PYTHON) VENV=$(VENV) WORKERS=$(WORKERS) PYTEST_ARGS=$(PYTEST_ARGS)"

setup: $(READY) ## make .venv and install everything into it, once

# Made again only when pyproject.toml changes. PIP_DISABLE...: no word about newer pips.
$(READY): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "No '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1). Name another: make setup PYTHON=python3.12" >&2; exit 1; }
	@"$(BIN)/python" -m pip --version >/dev/null 2>&1 || { \
	  "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' cannot make virtual environments (it lacks venv or ensurepip)." >&2; \
	    echo "On Debian and Ubuntu: apt install python3-venv. Or name another: make setup PYTHON=/path/to/python3" >&2; exit 1; }; \
	  echo "Making $(VENV) ..."; "$(PYTHON)" -m venv --clear "$(VENV)"; }
	@echo "Installing into $(VENV) (a minute the first time) ..."
	@PIP_DISABLE_PIP_VERSION_CHECK=1 "$(BIN)/python" -m pip install -qq -e '.[$(EXTRAS)]'
	@touch "$@"

demo: $(READY) ## run the example end to end, then its time-travel tests
	@"$(BIN)/python" examples/demo.py

test: $(READY) ## run the whole suite, documentation included; WORKERS=0 for one process
	@"$(BIN)/python" -m pytest -n $(WORKERS) $(PYTEST_ARGS)

torture: $(READY) ## kill servers TORTURE times, and plant faults that must be found
	@EDDA_TORTURE=$(TORTURE) "$(BIN)/python" -m pytest tests/torture -m "slow or not slow" $(PYTEST_ARGS)

fuzz: ## fuzz the HTTP door from its OpenAPI document, in .venv-fuzz
	@$(MAKE) --no-print-directory setup VENV=.venv-fuzz EXTRAS=dev,fuzz
	@.venv-fuzz/bin/python -m pytest tests/test_http_fuzz.py $(PYTEST_ARGS)

docs: ## build the documentation site into site/, in .venv-docs
	@$(MAKE) --no-print-directory setup VENV=.venv-docs EXTRAS=docs
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict --clean
	@echo "Built. To read it, search included: $(PYTHON) -m http.server -d site"

lint: $(READY) ## ruff, mypy --strict, and the import river
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy" --strict edda edda_testkit
	@"$(BIN)/lint-imports" --no-logo

format: $(READY) ## let ruff mend what it can
	@"$(BIN)/ruff" check --fix .
	@"$(BIN)/ruff" format .

cover: $(READY) ## run the suite with branch coverage; the pure rooms must have all of it
	@"$(BIN)/coverage" erase
	@"$(BIN)/coverage" run -m pytest -n 0 $(PYTEST_ARGS)
	@"$(BIN)/coverage" combine -q
	@"$(BIN)/coverage" report
	@"$(BIN)/coverage" report --include='$(PURE)' --fail-under=100

check: lint test ## everything that must be green before a commit

wheel-test: $(READY) ## build the wheel, and try it and the examples with the sources away
	@.ci/wheel-test "$(BIN)/python"

mutate: ## plant small faults in the pure rooms, and count those that the tests find; ROOMS=...
	@$(MAKE) --no-print-directory setup VENV=.venv-mutate EXTRAS=dev,mutate
	@.venv-mutate/bin/python scripts/mutate.py $(ROOMS)

river: ## print who imports whom, in order
	@"$(PYTHON)" scripts/river.py

bench: $(READY) ## run benchmarks/bench_*.py, but not the peers
	@set -e; for file in $(filter-out %/bench_peers.py,$(wildcard benchmarks/bench_*.py)); do echo "== $$file"; "$(BIN)/python" "$$file"; done

bench-peers: $(READY) ## install the peers into .venv-peers/, and measure them side by side with ours
	@"$(BIN)/python" benchmarks/bench_peers.py --install $(PEERS)

clean: ## remove what was built or cached, but not .venv
	@rm -rf build dist site *.egg-info .coverage .coverage.* htmlcov .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find benchmarks docs edda edda_testkit examples tests -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
