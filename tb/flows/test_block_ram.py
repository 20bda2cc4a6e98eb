"""The memories that must be block RAM are: synthesis maps the banks of a small preset to ECP5's, not to flip-flops."""

import json

import pytest

from flows.emit import emit
from flows.synth.tools import run_yosys
from hw.presets import PRESETS

CONFIG = PRESETS["systolic-4x4"]


@pytest.mark.parametrize("block", ["scratchpad", "accumulator"])
def test_a_bank_becomes_block_ram(block, tmp_path):
    emission = emit(CONFIG)
    module = emission.manifest["hierarchy"][f"heddle_{block}"]["bank_0"]
    (bank,) = [memory for memory in emission.manifest["memories"] if memory["path"].startswith(f"heddle.{block}.bank_0.")]
    (tmp_path / "top.v").write_text(emission.verilog)
    run_yosys(["read_verilog top.v", f"hierarchy -top {module}", f"synth_ecp5 -top {module}", "tee -o stat.json stat -json"],
              tmp_path, "bank")
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert cells["DP16KD"] == -(-bank["width"] // 36)           # 512 × 36 each, the widest that it can be
    assert cells.get("TRELLIS_DPR16X4", 0) == 0
    assert cells["TRELLIS_FF"] < 3 * bank["width"]              # what a read of the word that is written needs
