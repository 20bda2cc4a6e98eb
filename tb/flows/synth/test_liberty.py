"""The reader of cell libraries: what it finds, what it refuses."""

import gzip
import re

import pytest

from flows.synth.generic import generic_liberty
from flows.synth.liberty import LibertyError, parse_liberty, read_liberty


def test_the_generic_library_counts_nand2():
    library = parse_liberty(generic_liberty())
    assert library.nand2.area == 1
    assert library.cells["XOR2"].area == 2.5
    assert library.smallest("flip-flop").area == 6
    assert library.driver.name == "BUF"
    assert library.cells["NAND3"].function == "!(a*b*c)"


def test_a_compressed_library_reads_like_a_plain_one(tmp_path):
    plain, packed = tmp_path / "a.lib", tmp_path / "a.lib.gz"
    plain.write_text(generic_liberty())
    packed.write_bytes(gzip.compress(generic_liberty().encode()))
    assert read_liberty(plain) == read_liberty(packed)


@pytest.mark.parametrize("function", ["!(A*B)", "(!(A B))", "!(A & B)", "(A*B)'", "!A+!B", "(!A) + (!B)", "(!A)|(!B)"])
def test_a_nand2_is_known_however_it_is_written(function):
    text = generic_liberty().replace('"!(A*B)"', f'"{function}"')
    assert parse_liberty(text).nand2.name == "NAND2"


def test_a_delay_lies_between_the_entries_of_a_table():
    table = ' (unit) { index_1 ("0, 1"); index_2 ("0, 0.008"); values ("0.1, 0.3", "0.1, 0.3"); }'
    text = re.sub(r" \(unit\) \{ values [^}]*\}", table, generic_liberty())
    assert parse_liberty(text).nand2.delay == pytest.approx(0.2)       # load 4 × 0.001 pF is half of the way


def test_cells_that_may_not_be_used_and_three_state_buffers_are_not_found():
    text = generic_liberty().replace('cell (BUF) {', 'cell (BUF) {\n    dont_use : true;')
    assert parse_liberty(text).driver.name == "INV"
    text = generic_liberty().replace('function : "A"', 'three_state : "E"; function : "A"')
    assert parse_liberty(text).cells["BUF"].kind == "other"


@pytest.mark.parametrize(("change", "message"), [
    (lambda text: text[:-3], r"line 1 of the liberty must have a '\}' for its '\{' \(of library generic\)"),
    (lambda text: text + "}", r"line \d+ of the liberty must have no '\}' without a '\{'"),
    (lambda text: text.replace("library (generic)", '"'), r"line \d+ of the liberty must have a name, a string or one of .*"),
    (lambda text: "{" + text, r"line 1 of the liberty must have a name before '\{'"),
    (lambda text: "", r"a liberty must hold one 'library \(name\) \{…\}', not 0"),
    (lambda text: text.replace("area : 1.0", "area : big"), r"area of cell \(BUF\) in line \d+ must be a number, not 'big'"),
    (lambda text: text.replace("1.0, 1.0", "1.0, many", 1),
     r"values of cell_rise \(unit\) in line \d+ must be numbers: could not convert string to float: 'many'"),
    (lambda text: text.replace('index_1 ("0.0, 100.0")', 'index_1 ("0.0, high")'),
     r"index_1 of lu_table_template \(unit\) in line \d+ must be numbers: .*"),
    (lambda text: text.replace('"1ns"', '"1e-ns"'), r"a unit must be a number and a unit, not '1e-ns'"),
    (lambda text: text.replace('ff (IQ', 'xx (IQ'), r"library generic must have a flip-flop with an area, and none of its 15 .*"),
    (lambda text: text.replace('"!(A*B)"', '"A*B"'), r"library generic must have a NAND2 with an area, .*"),
    (lambda text: text.replace('"!A"', '"A"'), r"library generic must have an inverter with an area, .*"),
])
def test_a_library_that_cannot_serve_says_why(change, message):
    with pytest.raises(LibertyError, match=rf"^{message}$"):
        parse_liberty(change(generic_liberty()))
