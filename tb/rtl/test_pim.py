"""Runs the cocotb bench of a PIM's pseudo-channel on the emitted Verilog."""

import dataclasses

from flows.cocotb_runner import build_cocotb, run_cocotb
from flows.emit import to_verilog
from hw.pim.channel import PimChannel
from hw.pim.presets import PIM_PRESETS

CONFIG = dataclasses.replace(
    PIM_PRESETS["pim-tiny"], wtype="int8", kvtype="int8", xtype="int8", ptype="float8_e4m3fn", acc="int32", lanes=32, rows_x=1,
    k_tile=512, n_acc_slots=2, xbuf_entries=32, obuf_entries=128)


def test_a_channel_and_its_dram(tmp_path):
    build = build_cocotb(to_verilog(PimChannel(CONFIG), "pim_channel"), "pim_channel", label="pim-channel")
    result = run_cocotb(build, "tb.rtl.pim_bench", folder=tmp_path, seed=1, environment={"HEDDLE_BENCH_CONFIG": CONFIG.to_json()})
    assert not result.failed
    assert len(result.passed) == 2
