# amaranth: UnusedElaboratable=no
"""HBM-PIM's instructions behind each other: what one leaves is the next one's operand, and which of them wait a cycle."""

import itertools

import numpy as np
import pytest

from hw.pim.crf import BANK_ROWS, CONFIG_COLUMNS, CrfOpcode, Operand
from hw.pim.timing_tables import DramCommand
from sw.pim.crf_assembler import encode_instruction
from tb.pim.crf_bench import INTERVAL, PHASES, UNITS, Recorder, cells_of, run


def word(opcode, dst, src0, src1=0, src2=0, indices=(0, 0, 0), **more):
    return encode_instruction(opcode, dst=dst, src0=src0, src1=src1, src2=src2,
                              **dict(zip(("dst_index", "src0_index", "src1_index"), indices, strict=True)), **more)


EVEN, GRF_A, GRF_B, SRF_M, SRF_A = Operand.EVEN_BANK, Operand.GRF_A, Operand.GRF_B, Operand.SRF_M, Operand.SRF_A
PRODUCERS = [                               # into register 1 of GRF_B, or into scalars
    word(CrfOpcode.ADD, GRF_B, GRF_B, EVEN, indices=(1, 2, 0)), word(CrfOpcode.MUL, GRF_B, GRF_B, EVEN, indices=(1, 2, 0)),
    word(CrfOpcode.MAC, GRF_B, GRF_B, EVEN, indices=(1, 2, 0)), word(CrfOpcode.MAD, GRF_B, GRF_B, EVEN, GRF_B, (1, 2, 3)),
    word(CrfOpcode.MOV, GRF_B, GRF_B, indices=(1, 3, 0), relu=1), word(CrfOpcode.MOV, GRF_B, EVEN, indices=(1, 0, 0)),
    word(CrfOpcode.MOV, GRF_B, Operand.A_OUT, indices=(1, 0, 0)), word(CrfOpcode.FILL, GRF_B, EVEN, indices=(1, 0, 0)),
    word(CrfOpcode.FILL, SRF_M, EVEN), word(CrfOpcode.FILL, SRF_A, EVEN),
]
CONSUMERS = [                               # of these, into one of GRF_A; the place is put in
    word(CrfOpcode.ADD, GRF_A, GRF_B, EVEN, indices=(0, 1, 0)), word(CrfOpcode.ADD, GRF_A, EVEN, GRF_B, indices=(0, 0, 1)),
    word(CrfOpcode.MUL, GRF_A, GRF_B, GRF_B, indices=(0, 1, 1)), word(CrfOpcode.MUL, GRF_A, EVEN, GRF_B, indices=(0, 0, 1)),
    word(CrfOpcode.MAC, GRF_A, GRF_B, EVEN, indices=(0, 1, 0)), word(CrfOpcode.MAD, GRF_A, EVEN, GRF_A, GRF_B, (0, 0, 1)),
    word(CrfOpcode.MOV, GRF_A, GRF_B, indices=(0, 1, 0)), word(CrfOpcode.MOV, GRF_A, GRF_B, indices=(0, 1, 0), relu=1),
    word(CrfOpcode.MOV, GRF_A, Operand.A_OUT), word(CrfOpcode.MOV, GRF_A, Operand.M_OUT),
    word(CrfOpcode.MUL, GRF_A, EVEN, SRF_M, indices=(0, 0, 3)), word(CrfOpcode.ADD, GRF_A, EVEN, SRF_A, indices=(0, 0, 5)),
    word(CrfOpcode.MAD, GRF_A, EVEN, SRF_M, SRF_A, (0, 0, 2)), word(CrfOpcode.MOV, GRF_A, SRF_A, indices=(0, 4, 0)),
]


def begin(recorder, rng, words):
    """Write a program, scalars and the first four registers of GRF_B, and turn PIM mode on."""
    recorder.load_program(words)
    recorder.activate(BANK_ROWS["config"])
    for column in (*CONFIG_COLUMNS["srf"], *CONFIG_COLUMNS["grf_b"][:4]):
        recorder.write(column, rng.normal(size=16).astype(np.float16).view(np.uint8))
    recorder.write(0, np.array([1] + [0] * 31, np.uint8))
    recorder.precharge()


def end(recorder, rows=(), columns=8):
    """Turn PIM mode off, and read rows back."""
    recorder.activate(BANK_ROWS["config"])
    recorder.write(0, np.zeros(32, np.uint8))
    recorder.precharge()
    for row in rows:
        recorder.activate(row)
        for column in range(columns):
            recorder.read(column, unit=column % UNITS)
        recorder.precharge()


def filled(rng, rows, scale=1.0):
    """Return a recorder whose even banks are full of normal values, in HAB mode, and its cells."""
    recorder = Recorder()
    recorder.recording = False
    for row in rows:
        recorder.activate(row)
        for unit in range(UNITS):
            for column in range(32):
                recorder.write(column, rng.normal(scale=scale, size=16).astype(np.float16).view(np.uint8), unit=unit)
        recorder.precharge()
    cells = cells_of(recorder)
    recorder.recording = True
    recorder.activate(BANK_ROWS["enter_hab"])
    recorder.precharge()
    return recorder, cells


def test_an_instruction_has_what_the_one_before_leaves():
    rng = np.random.default_rng(4)
    recorder, cells = filled(rng, range(2))
    pairs = list(itertools.product(PRODUCERS, CONSUMERS))
    assert len(pairs) == 140
    show = [word(CrfOpcode.MOV, EVEN, GRF_A, auto=1), encode_instruction(CrfOpcode.EXIT)]
    for start in range(0, len(pairs), 8):
        eight = pairs[start:start + 8]
        end(recorder)
        begin(recorder, rng, [*(word | at << 8 * (word == consumer) for at, (producer, consumer) in enumerate(eight)
                                for word in (producer, consumer)), *show])
        recorder.activate(start // 8 % 2)
        for column in range(2 * len(eight)):
            recorder.read(column)
        recorder.precharge()
        recorder.activate(100 + start // 8)
        for column in range(8):
            recorder.read(column)
        recorder.precharge()
    end(recorder, range(100, 100 + -(-len(pairs) // 8)))
    assert recorder.products_of_sums == 3 * 3       # ADD, MAC and MAD before MUL, MUL and MAC
    run(recorder, cells, seed=4)


@pytest.mark.parametrize("phases", [PHASES, PHASES // 2])
def test_a_product_of_a_sum_waits_a_cycle(phases):
    rng = np.random.default_rng(5)
    chain = word(CrfOpcode.MAC, GRF_B, GRF_B, EVEN)                         # b ← b + b·w: each is the next one's factor
    alone = word(CrfOpcode.MAC, GRF_A, GRF_B, EVEN, indices=(3, 1, 0))      # sums into its own addend: no factor
    twenty, six = (encode_instruction(CrfOpcode.JUMP, count=count - 1, offset=1) for count in (20, 6))
    # A row is opened a phase later than the one before, unless that one has waited: so the chains begin in every phase.
    rows = [(20 + 6,), (20, 6), (10, 10, 6), (7, 7, 6, 6), (5, 5, 5, 5, 6)]
    nest = encode_instruction(CrfOpcode.JUMP, count=len(rows) - 1, offset=4)
    recorder, cells = filled(rng, range(2), 0.2)
    show = [word(CrfOpcode.MOV, EVEN, GRF_B), word(CrfOpcode.MOV, EVEN, GRF_A, indices=(0, 3, 0))]
    begin(recorder, rng, [alone, twenty, chain, six, nest, *show, encode_instruction(CrfOpcode.EXIT)])
    for index, columns in enumerate(itertools.chain(*rows)):
        recorder.activate(index % 2)
        for column in range(columns):
            recorder.read(column)
        recorder.precharge()
    recorder.activate(100)
    recorder.read(0)
    recorder.read(1)
    recorder.precharge()
    end(recorder, [100], 2)
    assert np.isfinite(recorder.grf(GRF_B)[:, 0]).all()
    assert (recorder.grf(GRF_B)[:, 0] != 0).all()
    assert recorder.products_of_sums == 5 * len(rows)
    times = run(recorder, cells, seed=5, phases=phases).times(DramCommand.MAC)
    assert len(times) == 26 * len(rows) + 2         # and what is read back
    chains = [times[26 * index + 20:26 * index + 26] for index in range(len(rows))]
    if phases < PHASES:
        assert all(later - earlier <= INTERVAL + 1 for chain in chains for earlier, later in itertools.pairwise(chain))
        return
    # A read that is a cycle later goes out in its first phase. Data of the last phase come a cycle later than others.
    assert {chain[0] % PHASES for chain in chains} == set(range(PHASES))
    for chain in chains:
        waits = [2 if chain[0] % PHASES == PHASES - 1 else 1, 1, 1, 1, 1]
        cycles = [at // PHASES for at in chain]
        assert [later - earlier - 1 for earlier, later in itertools.pairwise(cycles)] == waits


def test_a_jump_takes_no_time_but_behind_another_one():
    rng = np.random.default_rng(6)
    add = word(CrfOpcode.ADD, GRF_B, GRF_A, EVEN, indices=(1, 2, 0))
    again, outer = (encode_instruction(CrfOpcode.JUMP, count=count, offset=offset) for count, offset in ((1, 1), (11, 2)))
    recorder, cells = filled(rng, range(2))
    for words in ([add, encode_instruction(CrfOpcode.JUMP, count=23, offset=1)], [add, again, outer]):
        begin(recorder, rng, [*words, encode_instruction(CrfOpcode.EXIT)])
        recorder.activate(1)
        for column in range(24):
            recorder.read(column)
        recorder.precharge()
        end(recorder)
    times = run(recorder, cells, seed=6).times(DramCommand.MAC)
    cycles = [later // PHASES - earlier // PHASES for earlier, later in itertools.pairwise(times)]
    assert cycles[:23] == [1] * 23
    # Two commands for three words, once those are used up that were given while the row was opened.
    assert cycles[24:][-8:] == [2, 1] * 4 or cycles[24:][-8:] == [1, 2] * 4
