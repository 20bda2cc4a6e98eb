"""`heddle diagram`: what it draws is what the design has."""

import copy
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from flows.cli import main
from flows.emit import emit
from flows.view.diagram import block_diagram
from flows.view.mesh import shown
from hw.presets import PRESETS

SVG = "{http://www.w3.org/2000/svg}"
CONFIG = PRESETS["systolic-4x4"]


def _texts(drawing):
    return [text.text for text in ET.fromstring(drawing).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def drawing():
    return block_diagram(CONFIG, emit(CONFIG).manifest, "systolic-4x4")


def test_every_block_and_bus_is_named(drawing):
    texts = _texts(drawing)
    manifest = emit(CONFIG).manifest
    for block, module in manifest["hierarchy"]["heddle"].items():
        assert block == "arbiter" or module in texts
    for port in ("m_axi R", "m_axi W", "s_axil", "irq"):
        assert port in texts
    for title in ("Controller", "Load unit", "Systolic engine", "Accumulator", "Vector unit", "Store unit", "Scratchpad",
                  "Array of 4×4 PEs"):
        assert title in texts
    assert [text for text in texts if re.fullmatch(r"bank \d", text)] == [f"bank {i}" for i in range(8)]
    assert len(re.findall(r"<title>PE row \d, column \d</title>", drawing)) == 16


def test_sizes_are_those_of_the_memories(drawing):
    texts = " ".join(_texts(drawing))
    assert "32 KiB in 8 banks of 4 KiB" in texts
    assert "4 KiB in 2 banks" in texts
    bigger = replace(CONFIG, scratchpad_bytes=65536, scratchpad_banks=4, dataflows=("ws",))
    texts = " ".join(_texts(block_diagram(bigger, emit(bigger).manifest, "bigger")))
    assert "64 KiB in 4 banks of 16 KiB" in texts
    assert "OS" not in texts


def test_the_vector_unit_for_transformers_reads_rows_and_writes_wide_ones(drawing):
    """The manifest is that of the smaller unit, with the same blocks and ports."""
    assert {"parameters", "write 4 × 8 b"} <= set(_texts(drawing))
    texts = set(_texts(block_diagram(replace(CONFIG, vector="transformer"), emit(CONFIG).manifest, "transformer")))
    assert {"rows A, B, C", "write 4 × ≤ 32 b"} <= texts
    assert "parameters" not in texts


def test_text_stays_inside_the_drawing(drawing):
    """An estimate, 0.6 of the size for each character, for text that is not turned."""
    root = ET.fromstring(drawing)
    for text in root.iter(f"{SVG}text"):
        if text.get("transform"):
            continue
        size = float(re.search(r"font-size:([\d.]+)px", text.get("style"))[1])
        wide, x = 0.6 * size * len(text.text), float(text.get("x"))
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[text.get("text-anchor")]
        assert left >= -1, text.text
        assert left + wide <= float(root.get("width")) + 1, text.text
        assert 0 < float(text.get("y")) < float(root.get("height")), text.text


def test_the_same_config_gives_the_same_bytes(drawing, tmp_path):
    assert main(["diagram", "systolic-4x4", "-o", str(tmp_path / "a.svg")]) == 0
    assert (tmp_path / "a.svg").read_text() == drawing


def test_blocks_that_have_no_place_are_listed():
    manifest = copy.deepcopy(emit(CONFIG).manifest)
    manifest["hierarchy"]["heddle"]["prefetcher"] = "heddle_prefetcher"
    assert "further blocks: prefetcher (heddle_prefetcher)" in _texts(block_diagram(CONFIG, manifest, "x"))


def test_large_arrays_are_drawn_with_a_gap():
    assert shown(4) == [0, 1, 2, 3]
    assert shown(64) == [0, 1, 2, 3, 4, 5, None, 63]


def test_the_answer_as_json(capsys, tmp_path):
    assert main(["diagram", "systolic-4x4", "--set", "queue_depth=8", "-o", str(tmp_path / "a.svg"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"] == (tmp_path / "a.svg").stat().st_size
    assert answer["blocks"]["engine"] == "heddle_systolic_engine"
    assert answer["digest"] == replace(CONFIG, queue_depth=8).digest()


@pytest.mark.parametrize(("arguments", "text"), [
    (["systolic-9x9", "-o", "x.svg"], r"preset must be one of systolic-4x4, .*, not 'systolic-9x9'"),
    (["systolic-4x4", "-o", "x.png"], r"-o must be a file \.svg, not 'x\.png'"),
    (["systolic-4x4", "-o", "no/such/x.svg"], r"-o must lie in a folder that exists, not 'no/such/x\.svg'"),
])
def test_bad_input_is_refused_before_anything_is_generated(capsys, monkeypatch, arguments, text):
    monkeypatch.setattr("flows.commands.diagram.emit", None)
    assert main(["diagram", *arguments]) == 2
    assert re.fullmatch(rf"heddle: {text}\n", capsys.readouterr().err)


def test_a_folder_is_no_drawing(capsys, tmp_path):
    (tmp_path / "x.svg").mkdir()
    assert main(["diagram", "systolic-4x4", "-o", str(tmp_path / "x.svg")]) == 2
    assert re.fullmatch(r"heddle: -o must be a file, not the folder '.*x\.svg'\n", capsys.readouterr().err)
