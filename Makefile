# `make serve` and `make test` set up everything that they need, starting from a fresh clone.
.DEFAULT_GOAL := help
.PHONY: help setup serve test test-fast check prose audit format bench bench-peers gpu acceptance conformance fuzz attack bundled platform secrets image release sbom lock clean

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
AUDIT := .venv-audit
BIN := $(VENV)/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(VENV)/ready $(VENV)/backbone ## Make the environment and prepare the embedded backbone

$(VENV)/ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "superpos needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version); name another: make PYTHON=python3.12"; exit 1; }
	@echo "1 of 3: making the environment in $(VENV) (once, some minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "2 of 3: installing $$(grep -c == requirements/dev.txt) packages"
	@$(BIN)/pip install --disable-pip-version-check -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/backbone: $(VENV)/ready
	@echo "3 of 3: preparing the embedded backbone"
	@$(BIN)/superpos backbone prepare
	@touch $@

serve: setup ## Serve the bundled tasks on http://127.0.0.1:8080
	@exec $(BIN)/superpos serve

platform: setup ## Run Redis, two servers, gateway and Prometheus here, without containers
	@exec $(BIN)/python -m deploy.platform

image: setup ## Build the image, run it confined, build it again after a change
	$(BIN)/python -m deploy.image

release: $(VENV)/ready ## Make the wheels, bill of materials and checksums of the commit in dist
	$(BIN)/python -m deploy.release

sbom: $(VENV)/ready ## Write the bill of materials (CycloneDX) of the locked packages into dist
	$(BIN)/python -m deploy.release.sbom

secrets: ## Make docker-compose.yml's secrets in deploy/secrets
	@$(PYTHON) -m deploy.secret_files

test: setup ## Run all tests
	$(BIN)/pytest --numprocesses auto --dist loadfile

test-fast: setup ## Run the tests that are not marked slow
	$(BIN)/pytest --numprocesses auto --dist loadfile -m "not slow"

check: $(VENV)/ready prose ## Check format, lint, types, import contracts, prose, licences and known faults
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m deploy.release.licences
	$(BIN)/python -m deploy.audit

prose: $(VENV)/ready ## Check the words and the spelling of documents, docstrings and messages
	$(BIN)/python -m scripts.prose
	$(BIN)/codespell

audit: $(VENV)/ready ## Check images and packages against advisories (offline: in part)
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/pip install --quiet --disable-pip-version-check -r requirements/audit.txt; } || \
	  echo "SKIPPED: pip-audit could not be installed"
	$(BIN)/python -m deploy.audit $(AUDIT)/bin/pip-audit

format: $(VENV)/ready ## Format the sources
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Run every benchmark, quick, in a quarter of an hour (SUPERPOS_DATA: on real rows)
	$(BIN)/python -m benchmarks.engine --quick
	$(BIN)/python -m benchmarks.neighbours --quick
	$(BIN)/python -m benchmarks.footprint --quick
	$(BIN)/python -m benchmarks.serving.fairness --quick
	$(BIN)/python -m benchmarks.serving --quick
	$(BIN)/python -m benchmarks.serving.readouts --quick
	$(BIN)/python -m benchmarks.adapters --quick --mixed
	$(BIN)/python -m benchmarks.adapters.registry --quick
	$(BIN)/python -m benchmarks.training --quick
	$(BIN)/python -m benchmarks.client --quick
	$(BIN)/python -m benchmarks.console --quick
	$(BIN)/python -m benchmarks.capacity simulate --replicas 10 --seconds 60

bench-peers: setup $(PEERS)/ready ## Compare with CTranslate2, ONNX Runtime; FastAPI, LitServe, Ray Serve before PEFT
	$(BIN)/python -m benchmarks.engine --quick --peers-python $(PEERS)/bin/python
	$(BIN)/python -m benchmarks.serving --quick --peers --peers-python $(PEERS)/bin/python

gpu: setup ## Measure on a CUDA device, at most ten minutes (untested on GPU)
	$(BIN)/python -m benchmarks.gpu run --out gpu.json

$(PEERS)/ready: requirements/peers.txt
	@echo "Making the peers' environment in $(PEERS) (once, some minutes)"
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r requirements/peers.txt
	@touch $@

acceptance: setup ## Train, push, serve and compare with transformers on real rows (set SUPERPOS_DATA)
	$(BIN)/python -m verification.acceptance
	$(BIN)/python -m verification.conformance
	$(BIN)/python -m verification.platform
	$(BIN)/python -m verification.chaos
	$(BIN)/python -m verification.ray_serve
	$(BIN)/python -m verification.isolation
	$(BIN)/python -m verification.upload_fuzz
	$(BIN)/python -m verification.documents
	$(BIN)/python -m verification.artefacts

conformance: setup ## Hold a server to its OpenAPI document: thousands of requests by schemathesis
	$(BIN)/python -m verification.conformance

fuzz: setup ## Send a server 20,000 mutated uploads
	$(BIN)/python -m verification.upload_fuzz

attack: setup ## Attack a server as hostile tenants and strangers; measure another tenant's wait
	$(BIN)/python -m verification.attack

bundled: setup ## Train the bundled adapters again (set SUPERPOS_DATA)
	$(BIN)/python -m scripts.train_bundled

lock: $(VENV)/ready ## Resolve the locked requirements again
	$(BIN)/python requirements/lock.py

clean: ## Remove the environment and the caches of the tools (not your registry)
	rm -rf $(VENV) $(PEERS) $(AUDIT) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
