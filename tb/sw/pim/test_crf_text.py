# amaranth: UnusedElaboratable=no
"""HBM-PIM's micro-code as text: words and back, and every mistake by its line."""

import numpy as np
import pytest

from hw.pim.crf import CrfOpcode, Operand
from sw.pim.crf_assembler import CrfError, encode_instruction
from sw.pim.crf_text import assemble_micro_code, disassemble_micro_code, read_micro_code
from sw.pim.hbm_gemv import gemv_program
from tb.pim.crf_bench import random_program

PRODUCT = """\
; 8 outputs × 256 inputs
even:   mac   grf_b, grf_a, even_bank  auto
        jump  even, 7
odd:    mac   grf_b, grf_a, odd_bank  auto     # the other banks
        jump  odd, 0x7
        mov   even_bank, grf_b  auto
        exit
"""
EVERY = """\
word_0: add   grf_a[1], grf_b[2], srf_a[3]
        mul   grf_b[7], even_bank, srf_m[4]
        mac   grf_a[0], odd_bank, grf_a[5]
        mad   grf_b[1], grf_a[6], srf_m[2], srf_a[2]
word_4: mov   odd_bank, a_out  relu
        fill  srf_m, even_bank
        mov   grf_b, srf_m[3]  auto
        nop
        nop   5
        jump  word_4, 3
        jump  word_0, 4095
        exit
"""


def test_text_is_the_program_that_it_says():
    assert assemble_micro_code(PRODUCT) == gemv_program(1)
    words = assemble_micro_code(EVERY)
    assert words[3] == encode_instruction(CrfOpcode.MAD, dst=Operand.GRF_B, src0=Operand.GRF_A, src1=Operand.SRF_M,
                                          src2=Operand.SRF_A, dst_index=1, src0_index=6, src1_index=2)
    assert words[9] == encode_instruction(CrfOpcode.JUMP, offset=5, count=3)
    assert disassemble_micro_code(words) == EVERY


def test_words_to_text_to_words():
    rng = np.random.default_rng(6)
    for _ in range(200):
        text = disassemble_micro_code(random_program(rng))
        words = assemble_micro_code(text)
        assert disassemble_micro_code(words) == text


@pytest.mark.parametrize(("text", "message"), [
    ("", "a program must have between 1 and 32 words, not 0"),
    ("nop", "a program must have an EXIT"),
    ("nop\nadds grf_a[0]", "line 2: instruction must be one of nop, add, mul, mac, mad, mov, fill, jump, exit, not 'adds'"),
    ("a: nop\na: exit", "line 2: a label must stand once, not 'a' again"),
    ("nop\n" * 32 + "; more\nexit", "line 34: a program must have at most 32 instructions"),
    ("exit now", "line 1: exit must have nothing behind it, not 'now'"),
    ("nop auto", "line 1: nop must have count behind it, not 'auto'"),
    ("a: nop\njump a", "line 2: jump must have label, count behind it, not 'a'"),
    ("jump b, 3\nb: exit", "line 1: label of a jump must be one of a line before it, not 'b'"),
    ("nop\nb: jump b, 3", "line 2: label of a jump must be of another instruction, not 'b'"),
    ("a: nop\njump a, -1", "line 2: count must be a number from 0 on, not '-1'"),
    ("a: nop\njump a, 4096", "line 2: JUMP.count must be between 0 and 4095, not 4096"),
    ("nop 2048", "line 1: NOP.count must be between 0 and 2047, not 2048"),
    ("mac grf_b[0], grf_a[0]", "line 1: mac must have 3 operands, dst, src0, src1, not 2"),
    ("mov grf_b[0], bank",
     "line 1: src0 must be one of a_out, m_out, even_bank, odd_bank, grf_a, grf_b, srf_m, srf_a, not 'bank'"),
    ("mov grf_b, even_bank", r"line 1: dst must have a register from 0 to 7 in brackets, not as in 'grf_b'"),
    ("mov grf_b, grf_a[2] auto", r"line 1: src0 must have no register in brackets, not as in 'grf_a\[2\]'"),
    ("fill srf_a[1], even_bank", r"line 1: dst must have no register in brackets, not as in 'srf_a\[1\]'"),
    ("mov grf_b[8], even_bank", "line 1: register of dst must be below 8, not 8"),
    ("mov grf_b[x], even_bank", "line 1: register of dst must be a number from 0 on, not 'x'"),
    ("mad grf_b[0], even_bank, srf_m[1], srf_a[2]",
     "line 1: register of src2 must be that of src1, 1, not 2: they share a field"),
    # What the check of a word says has the line too.
    ("nop\n\nmul even_bank, grf_a[0], grf_a[1]", "line 3: dst must be one of GRF_A, GRF_B, not 2"),
    ("mac grf_a[0], even_bank, odd_bank",
     "line 1: src0 and src1 must not both be banks, as in MAC: one column command reads one of them"),
    ("fill grf_a[0], even_bank relu", "line 1: relu must be 0 in FILL, not 1"),
])
def test_mistakes_have_their_line(text, message):
    with pytest.raises(CrfError, match=f"^{message}$"):
        assemble_micro_code(text)


def test_files(tmp_path):
    file = tmp_path / "product.crf"
    file.write_text(PRODUCT)
    assert read_micro_code(file) == gemv_program(1)
    file.write_text(PRODUCT.replace("0x7", "seven"))
    with pytest.raises(CrfError, match=r"product.crf: line 5: count must be a number from 0 on, not 'seven'$"):
        read_micro_code(str(file))
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path / "none.crf"):
        with pytest.raises(CrfError, match=rf"{path.name} must be a readable text file: "):
            read_micro_code(path)
