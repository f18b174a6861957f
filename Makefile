# Two commands do everything: `make quickstart` and `make test`.
PYTHON ?= python3.11
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: help quickstart test test-fast lint docs install audit clean

help:
	@echo "make quickstart  install the base, run recipes/quickstart.yaml, show the comparison"
	@echo "make test        install, lint, type-check, run all tests"
	@echo "make test-fast   unit tests that are neither slow nor start processes: for the inner loop"
	@echo "make docs        the documentation as a site, in build/site/index.html"
	@echo "make install     the environment .venv with everything that the tests need"
	@echo "make audit       known vulnerabilities of the packages in constraints.txt; needs the internet"

PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

# Two stamps: the base alone, and the base with the extra test. Each is renewed when the list of
# packages changes.
.venv/base: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP_INSTALL) -e .
	touch $@

.venv/installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP_INSTALL) -e '.[test]'
	touch $@ .venv/base

install: .venv/installed

quickstart: .venv/base
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

# For the inner loop: no lint, no experiment that is run to its end.
UNITS = _core config curvature data models objectives report/terminal statistics training
test-fast: install
	$(BIN)/pytest -n auto --dist loadfile -q -m "not slow" tests/test_house.py $(UNITS:%=tests/%)

# In an environment of its own. --strict: an audit that could not look up a package is none.
audit:
	test -x build/audit/bin/pip-audit || \
	  ($(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit==2.10.1)
	build/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off \
	  -r constraints.txt

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build *.egg-info
