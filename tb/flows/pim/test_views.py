"""`heddle diagram`, `report` and `synth` on PIMs: what they say is what the design has; what makes no sense there is refused."""

import copy
import dataclasses
import json
import re
import xml.etree.ElementTree as ET

import pytest

from flows.cli import main
from flows.pim.emit import PIM_TOP, emit_pim
from flows.view.pim_diagram import pim_block_diagram
from flows.view.pim_facts import buffers_of
from hw.pim.presets import PIM_PRESETS

SVG = "{http://www.w3.org/2000/svg}"
TINY = PIM_PRESETS["pim-tiny"]


def _texts(drawing):
    return [text.text for text in ET.fromstring(drawing).iter(f"{SVG}text")]


# Diagrams ------------------------------------------------------------------------------------------------------------


def test_every_block_is_named_with_its_module(capsys, tmp_path):
    file = tmp_path / "tiny.svg"
    assert main(["diagram", "pim-tiny", "-o", str(file), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    texts, manifest = _texts(file.read_text()), emit_pim(TINY).manifest
    assert (answer["top"], answer["digest"]) == (PIM_TOP, TINY.digest())
    assert answer["blocks"] == manifest["hierarchy"][PIM_TOP]
    for block in ("io", "place", "jobs"):
        assert answer["blocks"][block] in texts
    channel = manifest["hierarchy"][answer["blocks"]["channel"]]
    compute = manifest["hierarchy"][channel["compute"]]
    for module in (channel["row_engine"], channel["skid"], channel["store"], compute["array"], compute["x_buffer"]):
        assert module in texts
    for title in ("Control", "I/O unit", "Job maker", "MAC array", "X buffer", "Output buffer", "Row engine", "DRAM", "set 15"):
        assert title in texts
    assert len(re.findall(r"<title>lane \d+, row \d</title>", file.read_text())) == 7 * TINY.rows_x      # six and the last


def test_a_die_without_a_softmax_unit_says_so():
    manifest = copy.deepcopy(emit_pim(TINY).manifest)
    manifest["hierarchy"][PIM_TOP].pop("softmax", None)
    texts = _texts(pim_block_diagram(TINY, manifest, "without"))
    assert any(text.startswith("64 entries of 2 × 32 b: ") for text in texts)
    halves = _texts(pim_block_diagram(dataclasses.replace(TINY, segments=2, xbuf_entries=16), manifest, "halves"))
    assert any(text.startswith("64 entries of 2 × 2 × 32 b: ") for text in halves)
    assert "no softmax unit" in texts
    assert "Softmax unit" not in texts
    assert "without" in texts


def test_sizes_of_buffers_are_those_of_the_verilog():
    manifest = emit_pim(TINY).manifest
    for name, part in (("x_buffer", "x_buffer."), ("output_buffer", "output_."), ("accumulators", "array.accumulators")):
        bits = sum(row["bits"] for row in manifest["memories"] if row["path"].startswith(f"{PIM_TOP}.channel.compute.{part}"))
        assert bits == 8 * buffers_of(TINY)[name]


@pytest.mark.parametrize(("arguments", "text"), [
    (["-o", "x.png"], "-o must be a file .svg, not 'x.png'"),
    (["-o", "x.svg", "--set", "lanes=24"], "PimConfig.lanes must be a divisor of the 32 weights of a burst, at least 16, not 24"),
    (["-o", "none/x.svg"], "-o must lie in a folder that exists, not 'none/x.svg'"),
])
def test_drawings_that_are_refused(capsys, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    assert main(["diagram", "pim-tiny", *arguments]) == 2
    assert capsys.readouterr().err == f"heddle: {text}\n"


# Reports -------------------------------------------------------------------------------------------------------------


def test_sizes_and_rates(capsys):
    assert main(["report", "pim-duplex", "--gemm", "8,4096,4096", "--json"]) == 0
    answer, config = json.loads(capsys.readouterr().out), PIM_PRESETS["pim-duplex"]
    assert (answer["lanes"], answer["rows_x"], answer["peak_macs_per_cycle"]) == (64, 8, 512)
    assert answer["gb_per_second"] == pytest.approx(83.2, rel=1e-3)
    assert answer["operations_per_byte"] == 8
    assert answer["buffer_bytes"] == buffers_of(config)
    # One pass of eight rows, 128 outputs a channel, 64 weights a cycle; refreshes take RFC of every REFI.
    assert answer["predicted_cycles"] == pytest.approx(4096 * 128 / 64 * 5070 / (5070 - 456))
    assert answer["utilization"] == pytest.approx(answer["refresh_efficiency"])
    assert "area" not in answer
    assert main(["report", "pim-duplex", "--gemm", "8,4096,4096"]) == 0
    out = capsys.readouterr().out
    for text in ("bandwidth", "83.22 GB/s", "operations a byte", "x buffer", "by the law", "utilization"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(("arguments", "text"), [
    (["--workload", "bert-base-layer"], "--workload is for arrays; a PIM takes --gemm M,N,K"),
    (["--position", "3"], "--position is for arrays; a PIM takes --gemm M,N,K"),
    (["--gemm", "8,256"], "--gemm must be M,N,K, three whole numbers, not '8,256'"),
    (["--gemm", "8,0,256"], "--gemm must be of at least one row, output and input, not '8,0,256'"),
    (["--clock-ns", "3"], "--area must be given with options of cells for a PIM, whose sizes and rates need none"),
    (["--area", "--liberty", ""], "--liberty must be a .lib or .lib.gz file, not ''"),
    (["--set", "lanes"], "--set must be KEY=VALUE, not 'lanes'"),
])
def test_reports_that_are_refused(capsys, arguments, text):
    assert main(["report", "pim-tiny", *arguments]) == 2
    assert capsys.readouterr().err == f"heddle: {text}\n"


def test_area_is_asked_for_of_pims_alone(capsys):
    assert main(["report", "systolic-4x4", "--area"]) == 2
    assert capsys.readouterr().err == "heddle: --area must be left out for an array, whose area is always made\n"


def test_area_beside_rates(capsys, monkeypatch):
    found = {"area": 2e5, "area_unit": "um2", "memory_area": 3e5, "fmax_mhz": None, "estimated_fmax_mhz": 700.0,
             "units": [{"block": "heddle_pim_pim_channel", "area": 15e4}], "liberty": {"name": "cells", "digest": "0"},
             "versions": {"yosys": "0"}, "notes": ["an estimate"]}
    monkeypatch.setattr("flows.commands.report_pim.synthesize", lambda verilog, options: found)
    monkeypatch.setattr("flows.commands.report_pim.check", lambda args: None)
    assert main(["report", "pim-tiny", "--area", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["mm2"] == pytest.approx(0.5)
    assert answer["gops_per_mm2"] == pytest.approx(2 * answer["gops"])
    assert main(["report", "pim-tiny", "--area"]) == 0
    out = capsys.readouterr().out
    for text in ("logic of a channel in cells", "memory macros", "pim_channel", "0.5 mm²", "note: an estimate"):
        assert text in out


# Synthesis -----------------------------------------------------------------------------------------------------------


def test_a_block_in_cells(capsys):
    block = "heddle_pim_kv_place"
    assert main(["synth", "pim-tiny", "--target", "asic", "--block", block, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["top"], answer["config"]) == (block, TINY.digest())
    assert answer["area"] > 100


@pytest.mark.parametrize(("arguments", "text"), [
    (["--target", "ecp5"], "--no-pnr must be given for a PIM, whose ports are more than a package has pins"),
    (["--target", "ecp5", "--no-pnr", "--baud", "9600"], "--baud must be left out for a PIM, which has no board, not 9600"),
    (["--target", "ecp5", "--block", "x", "--memory", "4096"],
     "--memory must be left out for a PIM, which has no board, not 4096"),
    (["--target", "asic", "--no-pnr"], "--no-pnr must go with --target ecp5 or ice40 or gowin, not asic"),
])
def test_syntheses_that_are_refused(capsys, arguments, text):
    assert main(["synth", "pim-tiny", *arguments]) == 2
    assert capsys.readouterr().err == f"heddle: {text}\n"


def test_a_block_that_there_is_not(capsys):
    assert main(["synth", "pim-tiny", "--target", "asic", "--block", "kv_place"]) == 2
    assert "near: heddle_pim_kv_place" in capsys.readouterr().err
