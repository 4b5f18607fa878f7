# Everything from a fresh clone: needs make and Python 3.11 or newer, nothing else. `make help` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
AIRFLOW_VENV ?= .airflow-venv
ARGS   ?=

BIN := $(VENV)/bin
UV  := $(BIN)/uv
NATIVE := $(wildcard app/native/*.c app/native/*.h)
# The locks are universal (all platforms, Python 3.11 and newer) and name no index: yours is used, as your configuration says.
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: slow help install demo test histories mutants faults lint fmt dbt dbt-docs airflow airflow-lock dashboard compose-env wheel audit lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  Arguments of demo and test go in ARGS, as in: make demo ARGS=\"--seconds 60 --rate 100\""

install: $(VENV)/.installed ## virtual environment with everything and the native library, once per change of their sources
	@$(BIN)/python -m app.native.build --if-changed

demo: install ## the whole bank on this machine until Ctrl-C (ARGS="--seconds 60 --no-dashboard --json")
	@$(BIN)/bankstream demo $(ARGS)

test: install ## the tests (ARGS="tests/unit -k name")
	$(BIN)/pytest -m "not slow" $(ARGS)

slow: install ## the tests that take long: doctor, continuity, restore, trace, rebuild, live schema changes, models, Airflow, killed servers
	$(BIN)/pytest -m slow $(ARGS)

histories: install ## 10,000 random histories of a table against a plain list of the past (about 8 minutes of processor time)
	BANKSTREAM_HISTORIES=1000 $(BIN)/pytest tests/agents/test_histories.py

mutants: install ## small changes to the code of domain and engine that no test notices, by module (SHARE=10: every tenth; all take an hour or more)
	$(if $(SHARE),BANKSTREAM_MUTANTS_SHARE=$(SHARE)) $(if $(SECONDS),BANKSTREAM_MUTANTS_SECONDS=$(SECONDS)) $(BIN)/python tests/mutants.py $(ARGS)

faults: install ## every fault of the matrix on a bank of its own (ARGS="worker-killed"; SEED=7 MINUTES=10 for the random mode)
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

lint: install ## style, types, import layers, C, workflows and Docker's files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows

fmt: install ## format the code and apply safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

dbt: install ## build and test the dbt project against the running stack (ARGS="--select gold")
	@settings="$$($(BIN)/bankstream stack env --export)" && eval "$$settings" && \
		$(BIN)/dbt build --project-dir dbt --profiles-dir dbt $(ARGS)

dbt-docs: install ## pages about every model, column, test and source of the running stack, as one file: dbt/target/static_index.html
	@settings="$$($(BIN)/bankstream stack env --export)" && eval "$$settings" && \
		$(BIN)/dbt docs generate --static --project-dir dbt --profiles-dir dbt $(ARGS)

dashboard: install ## the dashboard on the running stack, at http://127.0.0.1:8501 (ARGS="--port 8600")
	@settings="$$($(BIN)/bankstream stack env --export)" && eval "$$settings" && $(BIN)/python -m ops.dashboard $(ARGS)

airflow: install ## Airflow's own environment, for the DAG of ops/airflow (about 200 MB)
	@PYTHON=$(abspath $(BIN))/python UV=$(abspath $(UV)) AIRFLOW_VENV=$(abspath $(AIRFLOW_VENV)) ops/airflow/install

compose-env: ## random secrets for docker compose, in .env (once; needs no Python)
	@ops/compose/make-env

wheel: install ## build the wheel, install it alone in a new environment, and run the unit tests against it
	@rm -rf dist && $(BIN)/hatchling build --target wheel --directory dist
	@PYTHON=$(abspath $(BIN))/python UV=$(abspath $(UV)) .ci/test-wheel dist/*.whl

audit: install ## known vulnerabilities of everything in the locks
	$(BIN)/pip-audit --strict --require-hashes --disable-pip $(foreach lock,bootstrap build dev,--requirement requirements/$(lock).txt)

lock: $(VENV)/.bootstrapped ## pin all requirements anew, with hashes (UPGRADE=--upgrade takes newer versions)
	$(COMPILE) $(UPGRADE) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) $(UPGRADE) pyproject.toml --all-extras -o requirements/dev.txt
	$(COMPILE) pyproject.toml -c requirements/dev.txt -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --extra warehouse -c requirements/dev.txt -o requirements/warehouse.txt
	$(COMPILE) pyproject.toml --extra dbt -c requirements/dev.txt -o requirements/dbt.txt
	$(COMPILE) pyproject.toml --extra dashboard -c requirements/dev.txt -o requirements/dashboard.txt
	$(COMPILE) requirements/build.in -c requirements/dev.txt -o requirements/build.txt

airflow-lock: $(VENV)/.bootstrapped ## pin Airflow's requirements anew (AIRFLOW_CONSTRAINTS=FILE: the constraints that Airflow publishes for the release)
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make airflow-lock" $(UPGRADE) $(addprefix --constraint ,$(AIRFLOW_CONSTRAINTS)) \
		ops/airflow/requirements.in -o ops/airflow/requirements.txt

clean: ## remove what can be made again (not .bankstream: that is data, see bankstream stack down --wipe)
	rm -rf $(VENV) $(AIRFLOW_VENV) dist dbt/target dbt/logs dbt/dbt_packages .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache mutants app/native/_bank.native.so app/native/.building-*
	find app agents tables sinks tests benchmarks ops -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.bootstrapped: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "bankstream needs Python 3.11 or newer, and '$(PYTHON)' is not: $$($(PYTHON) --version 2>&1). Install one and say: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "'$(PYTHON) -m venv' failed: install the venv module of your Python (Debian, Ubuntu: apt install python3-venv)." >&2; rm -rf $(VENV); exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt || { \
		echo "uv could not be installed: check the network, and pip's index and proxy settings (pip config list)." >&2; exit 1; }
	@touch $@

$(VENV)/.installed: $(VENV)/.bootstrapped requirements/dev.txt pyproject.toml
	@VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip sync --require-hashes requirements/dev.txt || { \
		echo "the requirements could not be installed: check the network, and uv's index and proxy settings (UV_INDEX_URL, HTTPS_PROXY)." >&2; exit 1; }
	@VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
