# make app: set everything up and serve the app.  make test: set everything up, a browser included, and test.
# make serve: the same by several processes behind one address, for a class; OPTIONS="--workers 2 --host 0.0.0.0".
# make docs: build the pages in docs/ with the API reference, into site/.
PYTHON ?= python3
PORT ?= 8501
BIN := .venv/bin
# of the suite: one more than there are cores, since some wait for a browser
WORKERS ?= $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 1)")
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# pip compiles what it installs on one core; this takes all of them. Files that are no Python of today are passed over,
# and so are the packages' own tests, a fifth of all.
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true

.PHONY: app serve test suite setup browser lint docs clean

app: .venv/ready-app
	$(BIN)/streamlit run app/main.py --server.port $(PORT) --server.headless true

serve: .venv/ready-serve
	$(BIN)/python -m app.serve --port $(PORT) $(OPTIONS)

# linters and pages take what the suite leaves of the cores while it waits for a browser
test: .venv/ready-test browser
	$(MAKE) --no-print-directory --jobs 3 lint docs suite

suite: .venv/ready-test
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

lint: .venv/ready-test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

browser: .venv/ready-test
	$(BIN)/python tests/browser.py

docs: .venv/ready-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

setup: .venv/ready-test

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv

.venv/ready-app: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -c constraints.txt -e '.[app]'
	@$(COMPILE)
	@touch $@

.venv/ready-serve: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -c constraints.txt -e '.[serve]'
	@$(COMPILE)
	@touch $@

.venv/ready-test: pyproject.toml constraints.txt requirements.txt | .venv/bin/python
	$(PIP) -r requirements.txt
	@$(COMPILE)
	@touch $@

clean:
	rm -rf .venv
