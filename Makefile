PYTHON ?= python3
BIN := .venv/bin
USER_ID ?= 196
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test lint format types imports check experiments table clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: .venv/ready ## set up, train target attention on MovieLens-100K, measure it, recommend from it
	$(BIN)/recattn train --config experiments/ml-100k/target-attention.yaml --output runs/target-attention --overwrite
	$(BIN)/recattn evaluate runs/target-attention --baselines
	$(BIN)/recattn recommend runs/target-attention --user $(USER_ID) --k 10

test: .venv/ready-dev ## set up and run the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

lint: .venv/ready-dev ## ruff: style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/ready-dev ## ruff: rewrite the files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/ready-dev ## mypy --strict on the package
	$(BIN)/mypy

imports: .venv/ready-dev ## the layer contracts: who may import whom
	$(BIN)/lint-imports

check: lint types imports test ## all that CI does

experiments: .venv/ready ## train the committed MovieLens-100K runs again (three seeds) and rewrite their JSONs
	$(BIN)/python experiments/run.py experiments/ml-100k/target-attention.yaml --baselines

table: .venv/ready ## rewrite the README's tables from the committed JSONs
	$(BIN)/python experiments/table.py

clean: ## remove the environment, caches and trained models
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes in first and everything through the constraints: unpinned, it brings gigabytes of GPU packages along.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "recattn needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
