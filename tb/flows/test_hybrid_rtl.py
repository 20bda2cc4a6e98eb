"""An accelerator with the hybrid engine: what its own counters say, on RTL and golden device, and what commands show of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli import main
from flows.rtl_device import RtlDevice
from hw.regs import COUNTERS, ENGINE_COUNTERS, counters_of, registers_of
from sw.golden.device import GoldenDevice
from sw.kernels.case import random_case
from sw.runtime import compile_case, run_case
from sw.workloads import gemm_workload
from tb.flows.test_generate_hybrid import CONFIG

OWN = ("blocks_rounded", "blocks_flushed", "blocks_padded")


@pytest.mark.xdist_group("hybrid-8x8")
@pytest.mark.parametrize("tokens", [1, 9])
def test_blocks_beyond_the_guard_bits_are_counted(tokens: int) -> None:
    """A matrix whose exponents lie further apart than there are guard bits, K that fills no block: flushed, padded, counted."""
    workload = replace(gemm_workload(tokens, 16, 140), weights="mxint4")
    _, spec = next(iter(workload.specs(CONFIG)))
    case = random_case("gemm", spec, CONFIG.weight, 1)
    weights = np.zeros((16, 140), np.float32)
    weights[:, ::32] = [1.0, 2.0**-8, 2.0**-9, 2.0**-31, 2.0**-32]
    case = replace(case, b=weights.T)
    program = compile_case(CONFIG, case)
    answers = [run_case(device(CONFIG).open(program.memory_bytes), program, case) for device in (GoldenDevice, RtlDevice)]
    (expected, golden), (found, rtl) = answers
    assert (found == expected).all()
    for name, count in zip(OWN, (2 * 16, 16, 16), strict=True):
        assert golden.counters[name] == rtl.counters[name] == count
    assert rtl.counters.keys() == {counter.name for counter in (*COUNTERS, *ENGINE_COUNTERS)}


def test_only_engines_that_count_have_the_registers() -> None:
    assert tuple(counter.name for counter in ENGINE_COUNTERS) == OWN == CONFIG.engine_counters
    assert counters_of(()) == COUNTERS
    assert {entry.name for entry in registers_of(OWN)} - {entry.name for entry in registers_of(())} == {
        f"{name.upper()}_{half}" for name in OWN for half in ("LO", "HI")}


@pytest.mark.xdist_group("hybrid-8x8")
@pytest.mark.parametrize(("k", "shown"), [(40, True), (32, False)])
def test_commands_show_counters_that_are_not_zero(capsys: Any, tmp_path: Path, k: int, shown: bool) -> None:
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    assert main(["run", "--config", str(tmp_path / "config.json"), "--gemm", f"1,8,{k}"]) == 0
    out = capsys.readouterr().out
    assert ("blocks_padded: 8 (blocks of weights that K does not fill)" in out) == shown
    assert "blocks_flushed" not in out
