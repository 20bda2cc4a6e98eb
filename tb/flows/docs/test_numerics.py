"""docs/numerics.md: every format, option and field is there; the corner cases are what the codecs do."""

import re

import numpy as np
import pytest

from flows import format_tables as tables
from flows.docs.numerics import numerics_page
from flows.docs.numerics_text import OPTION_DOCS, PROSE
from hw.formats import ALIASES, FORMATS, OPTIONS
from sw.formats import FormatError, dequantize, quantize


@pytest.fixture(scope="module")
def page():
    return numerics_page()


def cells(line):
    return [cell.strip() for cell in line.strip("|\n").split(" | ")]


def test_every_format_has_a_row_with_its_bits_and_source(page):
    rows = {cells(line)[0]: cells(line) for line in page.split("\n## Corner cases")[0].splitlines() if line.startswith("| `")}
    for name, fmt in FORMATS.items():
        row = rows[f"`{name}`"]
        assert row[1].rstrip("+") == f"{fmt.bits_per_weight:.4g}"
        assert row[7] == fmt.source


def test_every_section_is_explained_and_shows_a_packed_word(page):
    assert PROSE.keys() == tables.sections().keys()
    for title, formats in tables.sections().items():
        text = page.split(f"\n### {title}\n")[1].split("\n### ")[0].split("\n## ")[0]
        assert text.startswith(f"\n{PROSE[title]}")
        assert ("Packed word of" in text) == (any(fmt.block for fmt in formats) or title == "Integers")


def test_every_option_and_short_name_is_explained(page):
    assert OPTION_DOCS.keys() == OPTIONS.keys()
    assert all(f"| `-{option}` |" in page for option in OPTIONS)
    assert all(f"`{short}` is `{name}`" in page for short, name in ALIASES.items())


def test_patents_that_authors_claim_are_named(page):
    for title in ("BitMoD", "RaZeR"):
        assert "patent application filed by Cornell University" in page.split(f"\n### {title}\n")[1].split("\n### ")[0]


def test_slots_of_sherry_are_those_of_its_specification(page):
    listed = "".join(re.findall(r"^\| 0x.…0x. \| (.*) \|$", page.split("\nSlots;")[1].split("\n### ")[0], re.MULTILINE))
    assert re.findall(r"`(.{4})`", listed) == (
        "0+++ 0+−+ 0++− 0+−− +0++ +0−+ +0+− +0−− ++0+ +−0+ ++0− +−0− +++0 +−+0 ++−0 +−−0".split())


def test_no_cell_reads_as_html(page):
    assert not re.search(r"^\|.*<\w", page, re.MULTILINE)


@pytest.mark.parametrize(("name", "value", "said"), [
    ("float16", 1e6, "+Inf"), ("float8_e4m3fn", 1e6, "448"), ("int4-asym-g128", 1e6, "refused"), ("int8", np.nan, "refused"),
    ("float32", np.nan, "NaN"), ("nvfp4", 1e-40, "kept"),
])
def test_corner_cases_are_what_happens(page, name, value, said):
    """The row of `name`, read from the page, against the codec."""
    section = next(title for title, formats in tables.sections().items() if FORMATS[name] in formats)
    corner = page.split("## Corner cases")[1].split("\n## ")[0].splitlines()
    head = next(cells(line) for line in corner if line.startswith("| formats"))
    column = head.index({"1000000.0": "10⁶", "nan": "NaN", "1e-40": "10⁻⁴⁰"}[str(value)])
    row = next(cells(line) for line in corner if f"`{name}`" in line or f"all of *{section}*" in line)
    assert row[column] == said
    array = np.zeros((1, 128), np.float32)
    array[0, 0] = value
    try:
        found = float(dequantize(quantize(array, name))[0, 0])
    except FormatError:
        assert said == "refused"
    else:
        assert tables.number(found) == said or (said == "kept" and found == pytest.approx(value, rel=0.25))
