# What you can do here. Where pip does not find the CPU build of torch by itself, PyTorch's own index
# is asked; EXTRA_INDEX names another, such as a mirror of yours.
PYTHON ?= python3.11
EXTRA_INDEX ?=
TORCH_INDEX := https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	$(if $(EXTRA_INDEX),--extra-index-url $(EXTRA_INDEX))

# Of their own, and outside: the peers' dependencies clash with ours.
BENCH ?= $(HOME)/.cache/feedbackloop/bench

# Of its own, too: in ours, spaCy would import torch, and whatever needs spaCy unasked would go unseen.
PRESIDIO ?= $(HOME)/.cache/feedbackloop/presidio

# Of its own: it pins everything that it needs.
OPEN_WEBUI ?= $(HOME)/.cache/feedbackloop/open-webui

.DEFAULT_GOAL := help
.PHONY: help setup hooks demo test up down check format test-browser test-kafka test-open-webui test-presidio test-vllm bench faults soak lock clean

help: ## list what you can do here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## set up, then the whole loop on this machine: the README's first command
	@$(BIN)/feedbackloop demo $(if $(JSON),--json $(JSON)) $(ARGS)

test: setup ## set up, then every test that needs no broker and no GPU: the README's second
	@$(BIN)/pytest $(ARGS)

up: setup ## the loop on this machine, left running: make up MODEL=folder-or-hub-id
	@$(BIN)/feedbackloop up --model $(MODEL) $(ARGS)

down: setup ## end what `make up` left running
	@$(BIN)/feedbackloop down

setup: $(VENV)/.installed ## a virtual environment from the lock files

$(VENV)/.installed: requirements/cpu.txt requirements/dev.txt pyproject.toml
	@echo "Installing into $(VENV): a few minutes the first time ..."
	@date +%s > .install-started
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements/cpu.txt -r requirements/dev.txt || { \
		echo "Once more, with PyTorch's own index for torch's CPU build ..."; \
		$(PIP) --extra-index-url $(TORCH_INDEX) -r requirements/cpu.txt -r requirements/dev.txt; }
	@$(PIP) --no-build-isolation --editable .
	@expr $$(date +%s) - $$(cat .install-started) > $(VENV)/.install-seconds; rm -f .install-started
	@touch $@

hooks: setup ## run `make check` before each commit
	@$(BIN)/pre-commit install

check: setup ## format, lint, types, import rules: what CI runs first
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy tests
	@$(BIN)/lint-imports

format: setup ## put every file into the one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test-browser: setup ## the snippet for web pages, in Chromium
	@$(BIN)/pytest -m browser tests/services/sidecar/test_browser.py $(ARGS)

test-kafka: setup ## what needs Apache Kafka: KAFKA_HOME=folder, or FEEDBACKLOOP_TEST_KAFKA=host:port
	@$(BIN)/pytest -m kafka $(ARGS)

test-open-webui: setup $(OPEN_WEBUI)/.installed ## our functions inside of a real Open WebUI, in an environment of its own
	@OPEN_WEBUI_PYTHON=$(OPEN_WEBUI)/bin/python $(BIN)/pytest -m open_webui tests/services/sidecar/test_open_webui.py $(ARGS)

test-presidio: $(PRESIDIO)/.installed ## Presidio as a recogniser, in an environment of its own
	@$(PRESIDIO)/bin/pytest -m "" tests/capture/test_presidio.py tests/services/test_redaction_settings.py $(ARGS)

test-vllm: setup ## the whole loop with a real vLLM and real training: minutes
	@$(BIN)/pytest -m vllm --timeout 1200 $(ARGS)

bench: setup $(BENCH)/.installed ## CPU and latency of the sidecar beside nginx, vLLM's router and LiteLLM: minutes
	@$(BIN)/python -m benchmarks.proxy --peers $(BENCH)/bin $(ARGS)

faults: setup ## kill our processes and take their disks, and count what is lost: ARGS="--kills 200"
	@$(BIN)/python -m benchmarks.faults $(ARGS)

soak: setup ## minutes of load with an outage of the log: memory, latency, loss: ARGS="--minutes 10"
	@$(BIN)/python -m benchmarks.faults.soak $(ARGS)

$(BENCH)/.installed: requirements/bench.txt
	@echo "Installing the peers into $(BENCH): a minute the first time ..."
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

$(OPEN_WEBUI)/.installed: requirements/open-webui.txt
	@echo "Installing Open WebUI into $(OPEN_WEBUI): a minute the first time ..."
	@test -x $(OPEN_WEBUI)/bin/python || $(PYTHON) -m venv $(OPEN_WEBUI)
	@$(OPEN_WEBUI)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

$(PRESIDIO)/.installed: requirements/presidio.txt
	@echo "Installing Presidio into $(PRESIDIO): half a minute the first time ..."
	@test -x $(PRESIDIO)/bin/python || $(PYTHON) -m venv $(PRESIDIO)
	@$(PRESIDIO)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

lock: setup ## work the lock files out anew from requirements/*.in
	@$(BIN)/python requirements/lock.py

clean: ## remove the environment and what the demonstration left
	@rm -rf $(VENV) .demo
