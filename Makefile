# Everything that a newcomer types. `make help` lists it.

PYTHON ?= python3
PRESET ?= systolic-16x16
MODEL ?= models/python-llama-1m
WORKERS ?= 2

BIN := .venv/bin
READY := .venv/ready
SITE_READY := .venv/site-ready

.PHONY: help setup sim test test-all icarus verilog lint lint-rtl bench docs site wheel clean

help:
	@echo "make setup     environment in .venv (and, as root on Debian or Ubuntu, missing system packages)"
	@echo "make sim       a language model completes a Python function on the RTL of $(PRESET)"
	@echo "make test      the whole test suite"
	@echo "make test-all  with it what takes minutes or needs Icarus Verilog or Sphinx: every preset in every simulator"
	@echo "make verilog   Verilog, manifest and C headers of PRESET=$(PRESET), in build/verilog/$(PRESET)"
	@echo "make lint      ruff and mypy"
	@echo "make lint-rtl  Verilator (and Icarus, where installed) on the Verilog of PRESET=$(PRESET)"
	@echo "make bench     speeds and utilizations (takes minutes)"
	@echo "make docs      the generated pages of docs/"
	@echo "make site      the documentation as HTML, in build/site"
	@echo "make wheel     wheel and source distribution, in build/dist"
	@echo "make clean     forget everything built"

setup: $(READY)

$(READY): pyproject.toml setup.sh
	@PYTHON=$(PYTHON) sh setup.sh
	@touch $(READY)

sim: $(READY)
	@$(BIN)/heddle generate $(PRESET) --model $(MODEL) --prompt-file $(MODEL)/prompt.txt --tokens 70

test: $(READY)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-all: $(SITE_READY) icarus
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m ""

icarus:
	@command -v iverilog >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends iverilog; } || \
		{ echo "missing Icarus Verilog; on Debian or Ubuntu: sudo apt-get install iverilog" >&2; exit 1; }

verilog: $(READY)
	@$(BIN)/heddle emit $(PRESET) -o build/verilog/$(PRESET)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/mypy

lint-rtl: $(READY)
	@$(BIN)/heddle emit $(PRESET) -o build/verilog/$(PRESET) --lint

bench: $(READY)
	@$(BIN)/python -m benchmarks

docs: $(READY)
	@$(BIN)/python -m flows.docs

site: $(SITE_READY)
	@rm -rf docs/_generated
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs build/site
	@echo build/site/index.html

$(SITE_READY): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

wheel: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[release]'
	@rm -rf build/dist
	@$(BIN)/python -m build --outdir build/dist . >/dev/null
	@ls build/dist/*

clean:
	rm -rf build
