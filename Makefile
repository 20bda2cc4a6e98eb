# Everything that a newcomer types. `make help` lists it.

PYTHON ?= python3
PRESET ?= systolic-16x16
WORKERS ?= 2

BIN := .venv/bin
READY := .venv/ready

.PHONY: help setup sim test test-all icarus verilog lint lint-rtl bench docs clean

help:
	@echo "make setup     environment in .venv (and, as root on Debian or Ubuntu, missing system packages)"
	@echo "make sim       one encoder layer of a real sentence transformer on the RTL of $(PRESET)"
	@echo "make test      the whole test suite"
	@echo "make test-all  with it what takes minutes or needs Icarus Verilog: every preset in every simulator"
	@echo "make verilog   Verilog, manifest and C headers of PRESET=$(PRESET), in build/verilog/$(PRESET)"
	@echo "make lint      ruff and mypy"
	@echo "make lint-rtl  Verilator (and Icarus, where installed) on the Verilog of PRESET=$(PRESET)"
	@echo "make bench     speeds and utilizations (takes minutes)"
	@echo "make docs      the generated pages of docs/"
	@echo "make clean     forget everything built"

setup: $(READY)

$(READY): pyproject.toml setup.sh
	@PYTHON=$(PYTHON) sh setup.sh
	@touch $(READY)

sim: $(READY)
	@$(BIN)/heddle run $(PRESET) --workload minilm-layer

test: $(READY)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-all: $(READY) icarus
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

clean:
	rm -rf build
