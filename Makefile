# Every target sets up what it needs from the hash-locked files in locks/ and reuses it the next time.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
ARGS ?=
PEERS := $(patsubst %/requirements.in,%,$(wildcard benchmarks/peers/*/requirements.in))
COMPILE := --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow test-gcp unit lint types faults images bench lock clean

help:    ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10
setup: .venv/runtime.ready ## install what running Tidegate needs
demo: .venv/runtime.ready ## a month of a shop's life through every flow, with a report (BUS=kafka: on Kafka)
	@$(BIN)/tidegate demo $(if $(BUS),--bus $(BUS)) $(ARGS)
test: .venv/dev.ready ## the tests, in parallel
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)
slow: .venv/dev.ready ## the slowest: whole services, the pages of the docs
	$(BIN)/python -m pytest -m slow -n 2 --dist worksteal $(ARGS)
test-gcp: .venv/dev.ready ## what BigQuery must do, by the service itself: make test-gcp PROJECT=your-project
	@test -n "$(PROJECT)" || { echo "say which project: make test-gcp PROJECT=your-project"; exit 1; }
	TIDEGATE_TEST_PROJECT=$(PROJECT) $(BIN)/python -m pytest -n 0 --timeout 3600 -m '' tests/contract/test_bigquery_table.py tests/warehouse/test_warehouse_on_bigquery.py $(ARGS)
unit: .venv/dev.ready ## the fast, pure tests
	$(BIN)/python -m pytest tests/unit $(ARGS)
lint: .venv/dev.ready .venv/tools.ready ## style, imports between layers, contracts against their history
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo && $(BIN)/tidegate contracts check
	.venv/tools/bin/sqlfluff lint --config warehouse_sql/.sqlfluff warehouse_sql
types: .venv/dev.ready .venv/tools.ready ## the type checker on the whole tree
	.venv/tools/bin/mypy --python-executable $(BIN)/python
faults: .venv/dev.ready ## every fault, seeded: make faults ARGS='--seed 7 --kills 200 --outage 10m --soak 24h'
	$(BIN)/python -m pytest -m 'faults or survives' -n 2 --dist worksteal $(ARGS)
images: .venv/dev.ready ## the tests of the image and the compose file (needs Docker; or see .ci/containers)
	$(BIN)/python -m pytest -m images tests/containers $(ARGS)
bench: .venv/dev.ready ## the figures README claims (ARGS='--only peers': beside other systems)
	$(BIN)/python -m benchmarks $(ARGS)
lock: .venv/dev.ready ## refresh locks/ from pyproject.toml
	$(BIN)/uv pip compile $(COMPILE) -o locks/build.txt locks/build.in
	$(BIN)/uv pip compile $(COMPILE) -o locks/compose.txt locks/compose.in
	$(BIN)/uv pip compile $(COMPILE) -o locks/tools.txt locks/tools.in
	$(BIN)/uv pip compile $(COMPILE) -o locks/runtime.txt pyproject.toml
	$(BIN)/uv pip compile $(COMPILE) --group dev -o locks/dev.txt pyproject.toml
	for peer in $(PEERS); do $(BIN)/uv pip compile $(COMPILE) -o $$peer/requirements.txt $$peer/requirements.in; done
clean: ## remove the environment and local data
	rm -rf .venv .tidegate .cache build *.egg-info

.venv/bin/uv: locks/build.txt
	@test -n "$(PYTHON)" || { echo "Tidegate needs Python 3.11 or 3.12: install one, or say make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/build.txt
	@touch $@
.venv/runtime.ready: .venv/bin/uv locks/runtime.txt pyproject.toml
	$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --require-hashes -r locks/runtime.txt
	$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-deps --no-build-isolation --offline -e .
	$(BIN)/tidegate doctor
	@touch $@
.venv/dev.ready: .venv/runtime.ready locks/dev.txt
	$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --require-hashes -r locks/dev.txt
	@touch $@
# dbt and mypy need different versions of the same package, so mypy has an environment of its own.
.venv/tools.ready: .venv/bin/uv locks/tools.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/tools
	$(BIN)/uv pip install --quiet --system-certs --python .venv/tools/bin/python --require-hashes -r locks/tools.txt
	@touch $@
