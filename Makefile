PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install run check test test-servers chaos e2e bench bench-long lock image clean

help: ## Show the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv from the lock file

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## Start everything at zero workers, run the example batch, watch it scale
	@$(BIN)/executor up --demo

check: install ## Lint, types, import contracts, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

test: install ## All tests, on a real server
	$(BIN)/pytest -n 2 -p no:randomly

test-servers: install ## What depends on the server, on Redis 7.0, 8.0 and Valkey 8.1 from Debian
	tests/servers
	@for server in .servers/*/server; do echo "$$server"; EXECUTOR_TEST_SERVER=$$PWD/$$server \
	    $(BIN)/pytest -q -n 2 -p no:randomly tests/fundamentals tests/trouble tests/dispatcher tests/worker \
	    tests/cli/test_doctor.py tests/cli/test_dead.py tests/k8s/test_redis_*.py || exit 1; done

chaos: install ## 20,000 evaluations under every fault, each promise checked; SEED=n replays a run
	@dpkg -s libfaketime >/dev/null 2>&1 || { command -v apt-get >/dev/null && apt-get install -qq -y libfaketime; } || true
	@$(BIN)/python -m tests.chaos --evaluations 20000 $(if $(SEED),--seed $(SEED))

e2e: install ## Scenarios on a real cluster: KUBECONFIG's, or one of its own from package registries
	@e2e/run

bench: install ## Every benchmark that takes minutes, each prints a table
	$(BIN)/python -m bench.roundtrip
	$(BIN)/python -m bench.throughput
	$(BIN)/python -m bench.coldstart
	$(BIN)/python -m bench.peers

bench-long: install ## Recovery beside peers (half an hour), then a soak (a quarter of an hour)
	$(BIN)/python -m bench.recovery
	$(BIN)/python -m bench.soak

lock: install ## Write the lock files anew from pyproject.toml: everything, and what the image needs
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --no-header --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --constraint requirements.lock --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements-image.lock

image: ## Build executor:local into .cluster/images/executor.tar (BASE=debootstrap where there is no registry)
	@k8s/image

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
