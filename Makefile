# `make demo` and `make test` set up everything that they need in .venv, from nothing but Python 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
KERNEL := murmur/kvcore/kernel
NATIVE := $(VENV)/native

.PHONY: native demo test check soak sanitize bench bench-engines format clean

demo: $(NATIVE)
	$(BIN)/python examples/airports.py

# In two processes, each file of tests in one of them: some of its tests count what the others saw.
test: $(NATIVE)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(NATIVE)
	$(BIN)/python -m pytest -m soak

sanitize: $(NATIVE)
	scripts/sanitize.sh $(BIN)/python

bench: $(NATIVE)
	$(BIN)/python -m benchmarks

# Murmur's engine beside RocksDB, LevelDB and LMDB, which nothing else here needs.
bench-engines: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[peers]'
	$(BIN)/python -m benchmarks.engines $(ARGUMENTS)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo-out build *.egg-info

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Murmur needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

native: $(NATIVE)

# The installation builds the kernel too; this rebuilds it when its sources have changed since.
$(NATIVE): $(READY) setup.py $(wildcard $(KERNEL)/*.pyx $(KERNEL)/native/*.?pp $(KERNEL)/native/*.pxi)
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@
