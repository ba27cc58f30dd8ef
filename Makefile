# make run    train, backtest and report on the bars that ship with the project
# make test   lint, types, import contract and tests
# make quality  pylint's score and radon's maintainability index
# make docs   the documentation, into site/
# make notebooks  JupyterLab with the notebooks, which open a finished run

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test lint quality docs viz mlflow notebooks bench clean

run: $(VENV)/.installed
	$(BIN)/kedro run

test: lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

quality: $(VENV)/.installed-test
	$(BIN)/pylint --fail-under=9.0 src/sentio_kedro
	@worse="$$($(BIN)/radon mi --show --min B src benchmarks)"; \
		test -z "$$worse" || { echo "Maintainability index below A, split these files:"; echo "$$worse"; exit 1; }

docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

viz: $(VENV)/.installed
	@echo "Open http://127.0.0.1:4141/?types=nodes for one box a stage; click a box to open it, tick Datasets to see what stages exchange."
	$(BIN)/kedro viz run --no-browser

mlflow: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/kedro mlflow ui  # which calls `mlflow` by its bare name

notebooks: $(VENV)/.installed-notebooks
	$(BIN)/jupyter-lab notebooks

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/throughput.py --peer

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[test]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-notebooks: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[notebooks]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[bench]'
	touch $(VENV)/.installed $@
