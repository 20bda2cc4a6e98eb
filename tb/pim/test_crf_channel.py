# amaranth: UnusedElaboratable=no
"""HBM-PIM's front end on timing-checked DRAM against the interpreter: a product, random programs and accesses, refusals."""

import itertools

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.crf import BANK_ROWS, CONFIG_COLUMNS, CrfOpcode, Operand
from hw.pim.crf_channel import CrfChannel, CrfFault
from hw.pim.timing_tables import DramCommand
from sw.pim.crf_assembler import CrfError, check_program, encode_instruction
from sw.pim.hbm_gemv import GemvPlan
from tb.pim.crf_bench import HBM2, INTERVAL, PHASES, Recorder, cells_of, random_runs, run


def test_a_matrix_vector_product():
    rng = np.random.default_rng(1)
    weights, x = rng.normal(size=(64, 256)).astype(np.float16), rng.normal(size=256).astype(np.float16)
    plan, recorder = GemvPlan(outputs=64, inputs=256), Recorder()
    for row, odd, values in plan.banks(weights):
        recorder.fill(row, odd, values)
    cells = cells_of(recorder)
    result = plan.result(recorder.run(plan.accesses(x)))
    model = run(recorder, cells)
    assert recorder.instructions == plan.instructions == 2 * 64 + 8
    np.testing.assert_allclose(result, weights.astype(np.float32) @ x.astype(np.float32), atol=0.5)
    # 32 MACs of a row follow each other every interval.
    times = model.times(DramCommand.MAC)
    assert [later - earlier for earlier, later in itertools.pairwise(times[:32])] == [INTERVAL] * 31
    assert times[32] - times[31] <= HBM2.rtp_l + HBM2.rp + HBM2.rcd_mac + PHASES


def test_random_programs_leave_what_the_interpreter_leaves():
    recorder, cells = random_runs(2, programs=6)
    assert {fault for _, fault in recorder.refusals} == {CrfFault.BANK}
    assert recorder.instructions > 300
    run(recorder, cells, stall=0.2, seed=2)


MALFORMED = [
    [encode_instruction(CrfOpcode.NOP)] * 32, [0x5000_0000], [0x0000_0001 << 27], [0x0000_8000 | 15 << 28 | 1 << 13],
    [encode_instruction(CrfOpcode.JUMP, offset=1, count=1)],
    [encode_instruction(CrfOpcode.NOP), encode_instruction(CrfOpcode.JUMP, offset=2, count=1)],
    [encode_instruction(CrfOpcode.NOP), encode_instruction(CrfOpcode.JUMP, count=1)],
    [encode_instruction(CrfOpcode.JUMP, offset=1, count=1) | 1 << 12],
    [encode_instruction(CrfOpcode.ADD, dst=Operand.EVEN_BANK, src0=Operand.GRF_A, src1=Operand.GRF_A)],
    [encode_instruction(CrfOpcode.MUL, dst=Operand.GRF_A, src0=Operand.SRF_M, src1=Operand.GRF_A)],
    [encode_instruction(CrfOpcode.ADD, dst=Operand.GRF_A, src0=Operand.GRF_A, src1=Operand.SRF_M)],
    [encode_instruction(CrfOpcode.MAC, dst=Operand.GRF_A, src0=Operand.EVEN_BANK, src1=Operand.ODD_BANK)],
    [encode_instruction(CrfOpcode.MAD, dst=Operand.GRF_A, src0=Operand.GRF_A, src1=Operand.GRF_A, src2=Operand.SRF_M)],
    [encode_instruction(CrfOpcode.MOV, dst=Operand.SRF_M, src0=Operand.GRF_A)],
    [encode_instruction(CrfOpcode.FILL, dst=Operand.GRF_A, src0=Operand.GRF_A)],
    [encode_instruction(CrfOpcode.MOV, dst=Operand.GRF_A, src0=Operand.GRF_A, src0_index=8)],
    [encode_instruction(CrfOpcode.FILL, dst=Operand.GRF_A, src0=Operand.ODD_BANK, relu=1)],
]


def test_what_cannot_run_is_refused_and_changes_nothing():
    recorder = Recorder()
    recorder.faults = True
    ones = np.full(16, 1, np.float16).view(np.uint8)
    recorder.read(0)
    recorder.activate(BANK_ROWS["config"])
    recorder.activate(5)
    recorder.write(0, ones)
    recorder.precharge()
    recorder.activate(BANK_ROWS["enter_hab"])
    recorder.precharge()
    recorder.activate(BANK_ROWS["config"])
    recorder.write(2, ones)
    recorder.write(0x18, ones)
    enter = np.array([1, 1] + [0] * 30, np.uint8)
    for words in MALFORMED:
        with pytest.raises(CrfError):
            check_program([*words, encode_instruction(CrfOpcode.EXIT)][:32])
        padded = np.array([*words, encode_instruction(CrfOpcode.EXIT), *[0] * 32][:32], np.uint32)
        for i, column in enumerate(CONFIG_COLUMNS["crf"]):
            recorder.write(column, padded[8 * i:8 * i + 8].view(np.uint8))
        recorder.write(0, enter)
    show = [encode_instruction(CrfOpcode.MOV, dst=Operand.ODD_BANK, src0=Operand.GRF_B), encode_instruction(CrfOpcode.EXIT)]
    recorder.write(4, np.array([*show, *[0] * 6], np.uint32).view(np.uint8))
    recorder.write(0, np.array([1] + [0] * 31, np.uint8))
    recorder.write(4, ones)                             # not while PIM mode is on
    recorder.precharge()
    recorder.activate(BANK_ROWS["exit_hab"])
    recorder.precharge()                                # neither may HAB mode be left: the row stays open
    recorder.activate(7)
    recorder.read(3, odd=False)                         # the program's bank is the odd one
    recorder.read(3, odd=True)
    recorder.write(0, ones)                             # at EXIT, and behind it, commands do nothing
    recorder.write(0, ones)
    assert {fault for _, fault in recorder.refusals} == set(CrfFault) - {CrfFault.NONE}
    run(recorder, {}, stall=0.3, seed=3)


def test_more_phases_than_the_interval_has_are_refused():
    with pytest.raises(ConfigError, match=r"^CrfChannel.phases must be between 1 and 4, the interval, not 5$"):
        CrfChannel(timing=HBM2, interval=INTERVAL, units=1, phases=5)
