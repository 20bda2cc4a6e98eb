"""Loops, MODI and HEADER of command lists, against loops in Python, and lists that cannot be run."""

import numpy as np
import pytest

from hw.pim.isa import PimErrorCause, PimOpcode, PimRegister
from sw.pim.assembler import assemble
from sw.pim.expand import CommandError, Settings, expand


def run(text):
    return list(expand(assemble(text), Settings()))


def fields(text, opcode=PimOpcode.MAC, *names):
    return [tuple(command.fields[name] for name in names) for command in run(text) if command.opcode is opcode]


def test_a_list_without_loops_is_itself():
    commands = run("wrx cnt=3\nmac row=5\neoc")
    assert [(c.index, c.opcode) for c in commands] == [(0, PimOpcode.WRX), (1, PimOpcode.MAC), (2, PimOpcode.EOC)]
    assert [c.composite for c in commands] == [1, 2, 3]


def test_a_loop_advances_fields():
    text = "setm r7, 2\nmodi 0, row, 3\nmodi 1, aidx, 1\nloop r7 + 1, 2\nmac row=10\nrdacc aidx=4\neoc"
    assert fields(text, PimOpcode.MAC, "row") == [(10,), (13,), (16,)]
    assert fields(text, PimOpcode.RDACC, "aidx") == [(4,), (5,), (6,)]


def test_nested_loops_restart_their_own_growth():
    rng = np.random.default_rng(1)
    for _ in range(20):
        outer, inner = (int(n) for n in rng.integers(0, 5, 2))
        a, b, c = (int(n) for n in rng.integers(0, 9, 3))
        text = (f"modi 2, row, {a}\nmodi 3, col, {c}\nloop {outer}, 4\n"
                f"modi 0, row, {b}\nloop {inner}, 1\nmac row=100\nrdcp col=1\neoc")
        # Command 2 of the outer body is the MAC, 3 the RDCP.
        assert fields(text, PimOpcode.MAC, "row") == [(100 + a * i + b * j,) for i in range(outer) for j in range(inner)]
        assert fields(text, PimOpcode.RDCP, "col") == [(1 + c * i,) for i in range(outer)]


def test_growth_may_be_negative_and_of_a_loop_itself():
    assert fields("modi 0, row, -2\nloop 3, 1\nmac row=9\neoc", PimOpcode.MAC, "row") == [(9,), (7,), (5,)]
    text = "modi 0, row, 1\nloop 4, 2\nloop 1, 1\nmac\neoc"          # the inner bound grows: 1 + 2 + 3 + 4
    assert len(fields(text)) == 10


def test_settings_follow_the_list():
    settings = Settings()
    seen = [(settings.of(PimRegister.K_BEATS), settings.heads.get(3, {}).get("tokens"))
            for _ in expand(assemble("setm k_beats, 2\nseth tokens, 3, 17\nsetm zero, 9\nsetm k_beats, 4\neoc"), settings)]
    assert seen == [(2, None), (2, 17), (2, 17), (4, 17), (4, 17)]
    assert settings.of(PimRegister.ZERO) == 0


def test_a_header_makes_one_composite():
    commands = run("nop\nheader cnt=2\nmac\nmac\nwrx\nnop\neoc")
    assert [c.composite for c in commands] == [1, 2, 2, 2, 3, 4]


def test_loops_of_nothing_end():
    words = assemble("setm r7, 4294967295\nloop r7, 2\nloop 0, 1\nnop\neoc")
    with pytest.raises(CommandError, match=r"^command 2: a list must go through at most 1000 commands, loops among them "
                                           r"\(LOOP_RANGE\)$"):
        list(expand(words, Settings(), most=1000))


@pytest.mark.parametrize(("text", "cause", "message"), [
    ("nop", "NO_END", "command 1: a list must have an EOC"),
    (".word 0\n.word 0xffffffffffffffff", "ILLEGAL_COMMAND", "command 1: a word must be a command, not 0xffffffffffffffff"),
    ("setm operands, 1\n.word 0x0400000000000020", "ILLEGAL_COMMAND", "command 1: register must be below 16, not 16"),
    (".word 0x0810000000000010", "ILLEGAL_COMMAND", "command 0: setting of a head must be below 4, not 4"),
    ("loop 1, 2\nnop", "LOOP_RANGE", "command 0: the body of a loop must be between 1 and 1 commands, not 2"),
    ("loop 1, 0\nnop", "LOOP_RANGE", "command 0: the body of a loop must be between 1 and 1 commands, not 0"),
    ("loop 1, 3\nloop 1, 2\nloop 1, 1\nnop", "LOOP_RANGE", "command 2: loops must be nested at most 2 deep"),
    ("loop 1, 3\nloop 1, 2\nmodi 0, row, 1\nnop\neoc", "LOOP_RANGE", "command 2: MODI must be for a loop, at most 2 deep"),
    ("modi 1, row, 1\nloop 1, 1\nmac\neoc", "LOOP_RANGE", "command 1: MODI must name one of the 1 commands of the body"),
    ("modi 0, row, 1\nmac\neoc", "LOOP_RANGE", "command 1: MODI must stand before a LOOP, not before MAC"),
    ("modi 0, row, 1", "LOOP_RANGE", "command 0: MODI must stand before a LOOP, not at the end"),
    ("modi 0, row, 1\n" * 5 + "loop 1, 1\nmac\neoc", "LOOP_RANGE",
     "command 4: a loop must have at most 4 MODIs, of known fields"),
    ("modi 0, row, 30000\nloop 4, 1\nmac row=10\neoc", "FIELD_OVERFLOW",
     "command 2: row must be between 0 and 65535, not 90010"),
    ("modi 0, aidx, -1\nloop 2, 1\nmac\neoc", "FIELD_OVERFLOW", "command 2: aidx must be between 0 and 255, not -1"),
    ("modi 0, row, 1\nloop 2, 1\nwrx\neoc", "ILLEGAL_COMMAND",
     "command 2: a field that MODI advances must be one of WRX, not 'row'"),
    ("header cnt=3\nmac\nbarrier\neoc", "ILLEGAL_COMMAND", "command 2: a composite must be without BARRIER"),
    ("header cnt=3\nheader cnt=1\neoc", "ILLEGAL_COMMAND", "command 1: a composite must be without HEADER"),
])
def test_a_list_that_cannot_be_run_is_refused(text, cause, message):
    with pytest.raises(CommandError) as caught:
        run(text)
    assert str(caught.value) == f"{message} ({cause})"
    assert caught.value.cause is PimErrorCause[cause]
