# Every target sets up what it needs; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(or $(shell command -v python3.11),python3)
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BUILDER ?= docker
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Needs no cluster, and so no turn of its own.
RULES := tests/integration/monitoring/test_rules.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
		{ echo "Trana needs Python 3.11: name yours, as in make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "This Python has no venv; another one of 3.11 (pyenv, uv, conda) needs no root" >&2; exit 2; }
	@# pip finds torch's CPU build where one is offered, and takes the CUDA build elsewhere.
	@$(BIN)/pip install --quiet --quiet --constraint constraints.txt '$(TORCH)' --editable '.[server,otel,trainer,lightning,keras,export,dev]'
	@touch $@

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Make .venv with everything in it

.PHONY: demo
demo: $(READY) ## Train the real irises on two workers, live, and show the result (under a minute)
	@$(BIN)/trana run deploy/examples/iris.yaml --home .trana/demo --num-cpus 2

.PHONY: serve
serve: $(READY) ## Start the service on this machine: 127.0.0.1:50051, metrics on 127.0.0.1:9464
	@$(BIN)/trana serve

.PHONY: monitor
monitor: $(READY) ## Start the service and, where installed, a Prometheus with our rules and alerts; say where to look
	@TRANA=$(BIN)/trana deploy/prometheus/monitor.sh

.PHONY: test
test: $(READY) ## Run every test (about a quarter of an hour on two cores)
	@$(BIN)/pytest --numprocesses 2 --quiet tests/unit
	@$(BIN)/pytest --numprocesses 2 --quiet tests/architecture tests/integration/trainer tests/integration/client $(RULES)
	@# One after another: each of these has a cluster of its own.
	@$(BIN)/pytest --ignore $(RULES) tests/integration/cluster tests/integration/monitoring tests/e2e

.PHONY: test-unit
test-unit: $(READY) ## Run the unit tests (seconds)
	@$(BIN)/pytest --numprocesses 2 --quiet tests/unit

.PHONY: bench
bench: $(READY) ## Measure against what one would use instead
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(BENCH)

.PHONY: bench-verdict
bench-verdict: $(READY) ## Train hundreds of networks and score the verdict on the fit (an hour; CURVES=stored: minutes)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.verdict $(if $(CURVES),--curves $(CURVES))

.PHONY: check
check: $(READY) ## Lint, types, import contracts, the contract's rules and drift
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@out=$$($(BIN)/lint-imports --no-logo) || { echo "$$out"; exit 1; }
	@$(BIN)/python proto/generate.py --lint
	@$(BIN)/python proto/generate.py --check
	@$(BIN)/python deploy/grafana/generate.py --check
	@echo "check: all good"

.PHONY: format
format: $(READY) ## Format the code
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

.PHONY: proto
proto: $(READY) ## Generate services/trana/v1 from proto/
	@$(BIN)/python proto/generate.py

.PHONY: constraints
constraints: $(READY) ## Resolve the newest versions of all dependencies into constraints.txt
	@$(BIN)/uv lock --quiet --upgrade
	@$(BIN)/uv export --quiet --all-extras --no-emit-project --no-hashes --no-annotate --no-header --prune torch > constraints.txt

.PHONY: images
images: image-jobs image-trainer image-trainer-cuda ## Build the three images (BUILDER=docker, podman or buildah)

.PHONY: image-jobs
image-jobs: ## Build the image of the control plane
	$(BUILDER) build $(IMAGE_OPTIONS) --file deploy/docker/jobs.Dockerfile --tag trana-jobs:$(VERSION) .

.PHONY: image-trainer
image-trainer: ## Build the image of the trainer for CPUs (TORCH_CPU_INDEX: the package index that has torch's CPU builds)
	$(BUILDER) build $(IMAGE_OPTIONS) --file deploy/docker/trainer.Dockerfile --tag trana-trainer:$(VERSION) \
		--build-arg TORCH='$(TORCH)+cpu' --build-arg PIP_EXTRA_INDEX_URL='$(TORCH_CPU_INDEX)' .

.PHONY: image-trainer-cuda
image-trainer-cuda: ## Build the image of the trainer for NVIDIA GPUs
	$(BUILDER) build $(IMAGE_OPTIONS) --file deploy/docker/trainer.Dockerfile --tag trana-trainer-cuda:$(VERSION) \
		--build-arg TORCH='$(TORCH)' .

.PHONY: images-test
images-test: $(READY) ## Build the images with buildah and run them: the service serves, the trainer trains (minutes, 10 GB)
	@$(BIN)/pytest -m images --log-cli-level INFO tests/integration/images

.PHONY: clean
clean: ## Remove what was made, the environment and local state included
	@rm -rf $(VENV) .trana .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .build services/*.egg-info uv.lock
