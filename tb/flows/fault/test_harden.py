"""`heddle harden` from end to end, on one block of a small accelerator."""

import json
import re

import pytest

from flows.cli import main
from flows.fault.engines.lanes.lanes_engine import LanesEngine
from hw.config import AcceleratorConfig

HARDEN = ("harden", "systolic-4x4", "--gemm", "4,4,8", "--sites", "dut.load.*", "--memories", "none", "--mesh", "none",
          "--no-synthesis", "--faults", "2000")
SAME = ("protection", "predicted_fit", "measured_fit", "spfm", "curve")


@pytest.mark.full
def test_a_block_is_hardened_and_injected_into_again(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "h"
    assert main([*HARDEN, "--spfm", "0.995", "--json", "-o", str(folder)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["target_met"]
    assert answer["agrees"]
    chosen = [group for group in answer["groups"] if group["mechanism"] != "none"]
    assert 0 < len(chosen) < len(answer["groups"])
    assert all(group["group"].startswith("load") for group in chosen)
    assert answer["before"]["logic"]["spfm"] < 0.995 <= answer["spfm_of_original_bits"]
    assert answer["after"]["golden_cycles"] == answer["before"]["golden_cycles"]
    assert answer["after"]["outcomes"]["detected"] > answer["before"]["outcomes"]["detected"]
    assert answer["predicted_area"] == pytest.approx(sum(group["area"] for group in answer["groups"]))
    hardened = AcceleratorConfig.from_json((folder / "hardened.json").read_text())
    assert [list(rule) for rule in hardened.protection] == answer["protection"]
    assert "Pareto curve" in (folder / "report.html").read_text()

    with monkeypatch.context() as nothing:
        nothing.setattr(LanesEngine, "run", None)               # it is all there
        assert main([*HARDEN, "--spfm", "0.995", "--json", "--resume", "-o", str(folder)]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {name: again[name] for name in SAME} == {name: answer[name] for name in SAME}
    assert main([*HARDEN, "--spfm", "0", "--resume", "-o", str(folder)]) == 2
    assert re.match(r"heddle: --resume must go on with the campaign in '.*after', but its target has changed",
                    capsys.readouterr().err)
    assert main([*HARDEN, "--spfm", "0", "-o", str(tmp_path / "easy")]) == 0
    shown = capsys.readouterr().out
    assert "no register group is protected: the target holds without" in shown
    assert "they agree" in shown
