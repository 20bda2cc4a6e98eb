"""PIM commands: words ↔ fields ↔ text."""

import numpy as np
import pytest

from hw.pim.isa import COMMAND_FIELDS, MODIFIABLE, OPCODES, SETTINGS, PimOpcode, PimRegister
from sw.pim.assembler import PimAssemblyError, assemble, command, decode, disassemble

EXAMPLE = """\
setm k_beats, 4
seth tokens, 3, 4096 tag=1
modi 1, row, -1
loop r7 + 4, 2
wrx cnt=3 xidx=8
mac mode=bcast grp=2 row=4660 col=5 cnt=31 xidx=17 aidx=9 clr last tag=1
loop 3, 1
mac grp=1
sfo aidx=3 value=4294967295
header cnt=7
kvap clr xidx=4 aidx=1
.word 0xffffffffffffffff
nop
eoc
"""


def test_the_fields_fill_a_word():
    assert sum(field.width for field in COMMAND_FIELDS) == 64
    assert set(OPCODES) == set(PimOpcode)
    assert len(SETTINGS) == len(PimRegister)
    for info in OPCODES.values():
        assert len(set(info.fields)) == len(info.fields)
        assert set(info.fields) <= {field.name for field in COMMAND_FIELDS} | {"value"} - {"op", "tag"}
    assert set(MODIFIABLE) <= {field.name for field in COMMAND_FIELDS}


def test_bits_are_where_the_layout_says():
    word = command(PimOpcode.MAC, mode=1, clr=1, last=1, grp=0xA, row=0x1234, col=0x15, cnt=0x55, xidx=0xB55, aidx=0xA5, tag=1)
    assert word >> 58 == 0x18
    assert word >> 56 & 3 == 1
    assert word >> 55 & 1 == 1
    assert word >> 54 & 1 == 1
    assert word >> 50 & 15 == 0xA
    assert word >> 34 & 0xFFFF == 0x1234
    assert word >> 28 & 63 == 0x15
    assert word >> 21 & 127 == 0x55
    assert word >> 9 & 4095 == 0xB55
    assert word >> 1 & 255 == 0xA5
    assert word & 1 == 1


def test_text_to_words_to_text():
    assert disassemble(assemble(EXAMPLE)) == EXAMPLE


def test_words_to_text_to_words():
    rng = np.random.default_rng(10)
    words = rng.integers(0, 1 << 64, 4000, dtype=np.uint64)
    words[:2000] >>= np.uint64(3)               # more of the opcodes that there are
    words[2000:3000] &= np.uint64(0xFC0000000000000F)
    np.testing.assert_array_equal(assemble(disassemble(words)), words)
    assert any(decode(int(word)) for word in words[2000:3000])


def test_every_command_with_random_fields_comes_back():
    rng = np.random.default_rng(11)
    widths = {field.name: field.width for field in COMMAND_FIELDS} | {"value": 32}
    for opcode, info in OPCODES.items():
        for _ in range(50):
            fields = {name: int(rng.integers(0, 1 << widths[name])) for name in (*info.fields, "tag")}
            if opcode is PimOpcode.MODI:
                fields["row"] -= 1 << 15
            word = command(opcode, **fields)
            assert decode(word) == (opcode, fields)
            assert [int(w) for w in assemble(disassemble([word]))] == [word]


def test_comments_and_blank_lines_are_nothing():
    assert [int(word) for word in assemble("; a\n\n  NOP  # b\n")] == [command(PimOpcode.NOP)]


@pytest.mark.parametrize(("text", "message"), [
    ("go", "line 1: command must be an opcode or .word, not 'go'"),
    ("nop\nmac rows=1", r"line 2: field of mac must be one of mode, grp, .*, tag, not 'rows'"),
    ("mac row=65536", "line 1: mac.row must be between 0 and 65535, not 65536"),
    ("mac row", "line 1: field must be written as NAME=NUMBER, not 'row'"),
    ("mac row=1 row=2", "line 1: field row must be given once, not again in 'row=1 row=2'"),
    ("mac row=x", "line 1: number must be decimal or 0x…, not 'x'"),
    ("setm k_beats", "line 1: command must be written as setm REGISTER, VALUE, not with operands 'k_beats'"),
    ("setm r99, 1", r"line 1: register must be one of zero, .*, not 'r99'"),
    ("seth size, 0, 1", "line 1: setting must be one of k_row, v_row, tokens, output, not 'size'"),
    ("modi 0, tag, 1", "line 1: field must be one of row, col, xidx, aidx, cnt, grp, not 'tag'"),
    ("modi 0, row, 40000", "line 1: modi.row must be between -32768 and 32767, not 40000"),
    ("loop -, 1", r"line 1: bound must be a register, a number, or a register \+ a number, not '-'"),
    (".word 0x10000000000000000", "line 1: word must be between 0 and 18446744073709551615, not 18446744073709551616"),
    ("eoc cnt=1", "line 1: field of eoc must be one of tag, not 'cnt'"),
])
def test_a_mistake_is_refused_with_its_line(text, message):
    with pytest.raises(PimAssemblyError, match=f"^{message}$"):
        assemble(text)
