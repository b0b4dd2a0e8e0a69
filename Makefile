# make app: set everything up and serve the app.  make test: set everything up, a browser included, and test.
PYTHON ?= python3
PORT ?= 8501
BIN := .venv/bin

.PHONY: app test setup browser lint clean

app: .venv/ready-app
	$(BIN)/streamlit run app/main.py --server.port $(PORT) --server.headless true

test: .venv/ready-test browser lint
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: .venv/ready-test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

browser: .venv/ready-test
	$(BIN)/python tests/browser.py

setup: .venv/ready-test

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv

.venv/ready-app: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[app]'
	@touch $@

.venv/ready-test: pyproject.toml requirements.txt .venv/ready-app | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

clean:
	rm -rf .venv
