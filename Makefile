# Two commands do everything: `make quickstart` and `make test`.
PYTHON ?= python3.11
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: help quickstart test lint docs install audit clean

help:
	@echo "make quickstart  install, run recipes/quickstart.yaml, show the comparison"
	@echo "make test        install, lint, type-check, run all tests"
	@echo "make docs        the documentation as a site, in build/site/index.html"
	@echo "make install     only the environment .venv"
	@echo "make audit       known vulnerabilities of what constraints.txt pins; needs the internet"

# The stamp is renewed when what is to be installed changes.
.venv/installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

install: .venv/installed

quickstart: install
	$(BIN)/ntpctp run recipes/quickstart.yaml

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A warning, such as a dead link, is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

test: lint
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# In an environment of its own. --strict: an audit that could not look up a package is none.
audit:
	test -x build/audit/bin/pip-audit || \
	  ($(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit==2.10.1)
	build/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off \
	  -r constraints.txt

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build *.egg-info
