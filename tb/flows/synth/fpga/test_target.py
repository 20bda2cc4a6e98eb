"""The FPGA targets of `heddle synth`: what they print and refuse."""

import json

import pytest

from flows.cli import main
from flows.emit import to_verilog
from flows.synth import TARGETS
from flows.synth.fpga.parts import PARTS, part_named
from tb.flows.synth.fpga.designs import Echo


def show(capsys, *arguments):
    """Return exit status, standard output and the last line of standard error of a command."""
    status = main(list(arguments))
    out, err = capsys.readouterr()
    return status, out, (err.strip().splitlines() or [""])[-1]


def test_the_command_synthesizes_a_block(capsys):
    status, out, _ = show(capsys, "synth", "systolic-4x4", "--target", "ecp5", "--block", "pe_mac_a8_w8_p24_wsos", "--json")
    assert status == 0
    answer = json.loads(out)
    assert answer["dsps"] == 1
    assert answer["stage"] == "post-synthesis"


def test_the_command_shows_a_table(capsys, monkeypatch):
    monkeypatch.setattr("flows.synth.fpga.target.board_verilog", lambda config, board: to_verilog(Echo(), "board"))
    status, out, _ = show(capsys, "synth", "systolic-4x4", "--target", "ice40", "--freq", "20")
    assert status == 0
    for words in ("board on ice40hx8k-ct256 (iCE40-HX8K breakout), post-route", "7,680", "asked 20 MHz, seed 1", "critical path",
                  "not tried on hardware", "yosys: "):
        assert words in " ".join(out.split())


@pytest.mark.parametrize(("arguments", "text"), [
    (("--target", "xilinx"), f"--target must be one of {', '.join(TARGETS)}, not 'xilinx'"),
    (("--target", "gowin", "--part", "ice40hx8k-ct256"),
     "--part must be one of gw2ar-lv18qn88c8/i7, gw1nr-lv9qn88pc6/i5 with --target gowin, not 'ice40hx8k-ct256'"),
    (("--target", "ecp5", "--freq", "0"), "--freq must be between 0.1 and 1000 MHz, not 0.0"),
    (("--target", "ecp5", "--seed", "-1"), "--seed must be between 0 and 2147483647, not -1"),
    (("--target", "ecp5", "--tries", "0"), "--tries must be between 1 and 1000, not 0"),
    (("--target", "ecp5", "--memory", "1000"),
     "BoardConfig.memory_bytes must be a power of two between 4096 and 1073741824, not 1000"),
    (("--target", "ice40", "--baud", "7000000"),
     "BoardConfig.baud must be between 1 and 3000000 (a quarter of clock_hz), not 7000000"),
])
def test_impossible_requests_are_refused(arguments, text, capsys):
    status, out, said = show(capsys, "synth", "systolic-4x4", *arguments)
    assert (status, out, said) == (2, "", f"heddle: {text}")


def test_parts_are_found_in_any_case():
    assert part_named("ecp5", "LFE5U-85F-6BG381C") is PARTS["lfe5u-85f-6bg381c"]


def test_a_memory_that_is_no_number_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["synth", "systolic-4x4", "--target", "ecp5", "--memory", "0x"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith("error: argument --memory: must be an integer, not '0x'\n")
