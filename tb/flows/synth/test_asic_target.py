"""The target `asic` of `heddle synth`: what it prints and refuses."""

import json
import re

import pytest

from flows.cli import main
from flows.synth import TARGETS, target_named
from tb.flows.synth.designs import KEYS


def test_targets():
    assert "asic" in TARGETS
    assert target_named("asic").DOC
    with pytest.raises(ValueError, match=r"^--target must be one of asic.*, not 'tpu'$"):
        target_named("tpu")


@pytest.mark.parametrize(("arguments", "text"), [
    (["systolic-4x4", "--target", "tpu"], r"--target must be one of asic.*, not 'tpu'"),
    (["systolic-4x4", "--target", "asic", "--liberty", "none.lib"],
     r"--liberty must be a readable \.lib or \.lib\.gz file, not 'none\.lib': .*"),
    (["systolic-4x4", "--target", "asic", "--liberty", ""], r"--liberty must be a \.lib or \.lib\.gz file, not ''"),
    (["systolic-4x4", "--target", "asic", "--block", ""], r"block must be a module of the design, not ''; near: .*"),
    (["systolic-4x4", "--target", "asic", "--clock-ns", "-1"], r"clock period must be a positive number of ns, not -1\.0"),
    (["systolic-4x4", "--target", "asic", "--block", "pe_mac"],
     r"block must be a module of the design, not 'pe_mac'; near: .*pe_mac_.*"),
    (["systolic-5x4", "--target", "asic"], r"preset must be one of .*, not 'systolic-5x4'"),
    (["systolic-4x4", "--target", "asic", "-o", "/dev/null/x"],
     r"-o must be a folder that can be written, not '/dev/null/x': .*"),
    (["systolic-4x4", "--target", "asic", "--part", "ice40up5k-sg48"],
     r"--part must go with --target ecp5 or ice40 or gowin, not asic"),
    (["systolic-4x4", "--target", "asic", "--no-pnr"], r"--no-pnr must go with --target ecp5 or ice40 or gowin, not asic"),
    (["systolic-4x4", "--target", "ecp5", "--liberty", "cells.lib"], r"--liberty must go with --target asic, not ecp5"),
])
def test_bad_input_of_the_command(capsys, arguments, text):
    assert main(["synth", *arguments]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert re.fullmatch(rf"heddle: {text}\n", said.err), said.err


def test_a_broken_library_is_named_with_its_file(capsys, tmp_path):
    file = tmp_path / "bad.lib"
    file.write_text("library (x) {\n")
    assert main(["synth", "systolic-4x4", "--target", "asic", "--liberty", str(file)]) == 2
    assert re.fullmatch(rf"heddle: --liberty {re.escape(str(file))}: line 1 of the liberty must have a '}}' .*\n",
                        capsys.readouterr().err)


def test_an_output_that_is_a_file(capsys, timed):
    assert main(["synth", "systolic-4x4", "--target", "asic", "-o", str(timed)]) == 2
    assert "-o must be a folder, not the file" in capsys.readouterr().err


PE = "pe_mac_a8_w8_p24_wsos"


def test_synth_of_one_block_prints_json_and_a_table_that_fits(capsys, monkeypatch):
    arguments = ["synth", "systolic-4x4", "--target", "asic", "--block", PE]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert KEYS | {"config"} <= set(answer)
    assert answer["top"] == PE
    assert main([*arguments, "--block", "accumulator_lane_p24_a32", "--json"]) == 0
    blocks = json.loads(capsys.readouterr().out)["blocks"]
    assert set(blocks) == {PE, "accumulator_lane_p24_a32"}
    assert blocks[PE]["area"] == answer["area"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert "pre-layout" in out
