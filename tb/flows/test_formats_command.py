"""`heddle formats`: what it prints fits a terminal and says what the tables say."""

import json
import re

import pytest

from flows import format_tables as tables
from flows.cli import main
from flows.commands import common
from hw.elements import ELEMENTS
from hw.formats import FORMATS, format_named


@pytest.fixture
def columns(monkeypatch):
    """Return a function that sets the width of the terminal."""
    def set_width(width):
        monkeypatch.setattr(common.console, "_width", width)
    return set_width


def printed(capsys, *arguments):
    assert main(["formats", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 160])
def test_the_list_names_every_format_and_fits(capsys, columns, width):
    columns(width)
    out = printed(capsys)
    assert all(re.search(rf"^ ?{re.escape(name)} ", out, re.MULTILINE) for name in FORMATS)
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= width
    assert ("HPCA 2025" in out) == (width == 160)


def test_a_row_has_bits_block_and_scales(capsys, columns):
    columns(120)
    row = next(line for line in printed(capsys).splitlines() if "bitmod4-g128" in line)
    assert row.split()[:7] == ["bitmod4-g128", "4.078", "4.125", "128", "e2m1", "uint8,", "row"]


@pytest.mark.parametrize("name", [*FORMATS, "int4-g64-bf16", "mxfp4-b16-ceil", "hss-2:4-1:4", "tasd-2:4+1:8"])
def test_details_of_every_format(capsys, columns, name):
    columns(80)
    out, fmt = printed(capsys, name), format_named(name)
    assert fmt.name in out
    assert "…" not in " ".join(line for line in out.splitlines() if not re.match(r"0x\w+…0x\w+ ", line))
    assert max(map(len, out.splitlines())) <= 80
    for bits, field in tables.bit_ranges(fmt.word):
        assert re.search(rf"^ {re.escape(bits)} +{field.name} ", out, re.MULTILINE)


def test_bit_ranges_are_those_of_the_published_layout(capsys):
    """A byte of E3M3 with the index of the special value above it, behind 16 codes of 4 bits."""
    lines = [line.split()[:2] for line in printed(capsys, "razer").splitlines()]
    assert [line for line in lines if line and line[0] in ("63:0", "69:64", "71:70")] == [
        ["63:0", "codes"], ["69:64", "scale"], ["71:70", "special"]]
    assert tables.bit_ranges(format_named("bitmod4-g1").word)[-1][0] == "13:12"
    assert tables.bit_ranges(format_named("sherry-contiguous-g4").word)[1][0] == "4"


def test_details_say_special_values_options_and_codes(capsys):
    out = " ".join(printed(capsys, "bitmod4-g128").split())
    assert "code 0x8 stands for +5, −5, +8, −8" in out
    assert "0x00…0x07 0, 0.5, 1, 1.5, 2, 3, 4, 6" in out
    assert "6 bits of padding" in out
    assert "-bf16" in printed(capsys, "int4-g32")


def test_several_names_are_shown_one_after_the_other(capsys):
    out = printed(capsys, "int8", "fp32")
    assert out.index("int8: ") < out.index("float32: ")


def test_json_has_every_format_and_its_fields(capsys):
    found = json.loads(printed(capsys, "--json"))
    assert list(found) == list(FORMATS)
    for name, entry in found.items():
        word = FORMATS[name].word
        assert [(field["low_bit"], field["width"] * field["count"]) for field in entry["fields"]] == [
            (word.offsets[field.name], field.bits) for field in word.fields]
        assert entry["bits_per_weight"] <= entry["stored_bits_per_weight"]
    assert (found["nvfp4"]["element"], found["nvfp4"]["scale"], found["nvfp4"]["outer_scale"]) == (
        "float4_e2m1fn", "float8_e4m3fn", "tensor")
    assert found["int4"]["scale"] is None
    assert found["mxfp4-b32"]["source"] == "OCP Microscaling Formats (MX) v1.0"


def test_json_of_one_name_has_its_canonical_name(capsys):
    assert list(json.loads(printed(capsys, "bf16", "--json"))) == ["bfloat16"]


def test_an_unknown_name_is_refused_and_a_near_one_told(capsys):
    assert main(["formats", "mxfp4-b31x"]) == 2
    assert re.fullmatch(r"heddle: format must be .*\(near it: .*mxfp4-b32.*\), not 'mxfp4-b31x'\n", capsys.readouterr().err)


@pytest.mark.parametrize(("name", "text"), [
    ("bitmod4-g128-full", r"bitmod4-g128 has no signed integers whose range 'full' could widen \('bitmod4-g128-full'\)"),
    ("int4-bf16", r"int4 has no float scale that 'bf16' could replace: give a group size first \('int4-bf16'\)"),
    ("int4-g32-ceil", r"int4-g32 has no power-of-two scale for 'ceil' to round \('int4-g32-ceil'\)"),
    ("mxint4-floor-ceil", r"options in .* must be about different things, not 'floor' and 'ceil' \('mxint4-floor-ceil'\)"),
    ("int4-g32-bf16-full-fp16", r"options in a format's name must be .*, not 'bf16' and 'fp16' \('int4-g32-bf16-full-fp16'\)"),
    ("int4-g32-full-full", r"options in a format's name must be .*, not 'full' and 'full' \('int4-g32-full-full'\)"),
    ("sherry-even", r"sherry takes no options in its name, not 'even' \('sherry-even'\)"),
    ("int4-g0", r"the block size in a format's name must be between 1 and 65536, not 0 \('int4-g0'\)"),
])
def test_a_name_that_asks_for_what_its_family_has_not(capsys, name, text):
    assert main(["formats", name]) == 2
    assert re.fullmatch(rf"heddle: {text}\n", capsys.readouterr().err)


def test_options_are_those_that_a_name_may_carry(capsys):
    found = json.loads(printed(capsys, "bitmod4-g128", "int4-g32", "mxfp4-b32", "2:4", "--json"))
    assert {name: entry["options"] for name, entry in found.items()} == {
        "bitmod4-g128": ["even", "away", "down"], "mxfp4-b32": ["floor", "ceil", "even", "away", "down"], "2:4": [],
        "int4-g32": ["fp16", "bf16", "fp32", "int8", "full", "even", "away", "down"]}


def test_list_still_shows_formats(capsys):
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["formats"] == {name: fmt.doc for name, fmt in FORMATS.items()}


def test_every_format_is_in_one_section():
    assert sorted(fmt.name for formats in tables.sections().values() for fmt in formats) == sorted(FORMATS)


@pytest.mark.parametrize("element", [element for element in ELEMENTS.values() if element.bits <= 8], ids=lambda e: e.name)
def test_code_rows_lead_back_to_every_value(element):
    """What the rows say, read as a person would read them, is the element's value table."""
    rows = tables.code_rows(element)
    values = []
    for codes, text in rows:
        low, high = (int(code, 16) for code in codes.split("…"))
        assert low == len(values)
        values += _read(text, high - low + 1)
    if rows:
        signed = len(values) < 1 << element.bits
        expected = element.values[:len(values)]
        assert values == pytest.approx(expected, rel=1e-8, nan_ok=True)
        if signed:
            assert element.values[len(values):] == pytest.approx([-value for value in values], rel=1e-8, nan_ok=True)


def _read(text, count):
    values = []
    for part in text.split(", then "):
        if found := re.fullmatch(r"(\S+) to (\S+) by (\S+)", part):
            first, last, step = map(_number, found.groups())
            values += [first + i * step for i in range(round((last - first) / step) + 1)]
        else:
            values += [_number(item) for item in part.split(", ")]
    return values + [values[-1]] * (count - len(values))        # one NaN stands for all to the end


def _number(text):
    text = text.replace("−", "-")
    if found := re.fullmatch(r"(-?)(?:(\d+)·)?2\^(-?\d+)", text):
        sign, factor, exponent = found.groups()
        return (-1 if sign else 1) * int(factor or 1) * 2.0 ** int(exponent)
    return float(text)
