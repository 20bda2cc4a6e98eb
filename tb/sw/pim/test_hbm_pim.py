"""HBM-PIM: micro-instructions, modes, a matrix-vector product, and everything that is refused."""

import numpy as np
import pytest

from hw.pim.crf import ALU_FIELDS, BANK_ROWS, CONFIG_COLUMNS, JUMP_FIELDS, NOP_FIELDS, CrfOpcode, Operand, PimMode
from sw.golden.pim.hbm_pim import UNITS, HbmPim
from sw.pim.crf_assembler import CrfError, check_program, decode_instruction, encode_instruction
from sw.pim.hbm_access import configure, write_registers
from sw.pim.hbm_gemv import GemvPlan, gemv, gemv_program, gemv_speedup, gemv_tck

EXIT = encode_instruction(CrfOpcode.EXIT)
NOP = encode_instruction(CrfOpcode.NOP)
ZERO = np.zeros(32, np.uint8)


def halves(*values):
    return np.array(values * (16 // len(values)), np.float16)


def machine(words, *, grf_a=None, grf_b=None, srf=None, even=None, odd=None):
    """Return units in PIM mode with a program, registers set, row 0 open and column 3 of its banks written."""
    pim = HbmPim()
    pim.activate(0)
    for unit in range(UNITS):
        if even is not None:
            pim.write(3, even.view(np.uint8), unit=unit)
        if odd is not None:
            pim.write(3, odd.view(np.uint8), unit=unit, odd=True)
    pim.precharge()
    pim.activate(BANK_ROWS["enter_hab"])
    pim.precharge()
    pim.load_program(words)
    pim.activate(BANK_ROWS["config"])
    for name, data in (("grf_a", grf_a), ("grf_b", grf_b)):
        for i, row in enumerate(data if data is not None else []):
            pim.write(CONFIG_COLUMNS[name].start + i, row.view(np.uint8))
    if srf is not None:
        pim.write(CONFIG_COLUMNS["srf"].start, srf.view(np.uint8))
    pim.write(CONFIG_COLUMNS["mode"].start, np.array([1] + [0] * 31, np.uint8))
    pim.precharge()
    pim.activate(0)
    return pim


def test_bits_are_where_the_layout_says():
    for fields in (ALU_FIELDS, JUMP_FIELDS, NOP_FIELDS):
        assert sum(field.width for field in fields) == 32
    word = encode_instruction(CrfOpcode.MAD, dst=5, src0=2, src1=6, src2=7, auto=1, dst_index=3, src0_index=4, src1_index=7)
    assert (word >> 28, word >> 25 & 7, word >> 22 & 7, word >> 19 & 7, word >> 16 & 7, word >> 15 & 1) == (4, 5, 2, 6, 7, 1)
    assert (word >> 8 & 15, word >> 4 & 15, word & 15) == (3, 4, 7)
    assert encode_instruction(CrfOpcode.MOV, relu=1) >> 12 & 1 == 1
    jump = encode_instruction(CrfOpcode.JUMP, count=5, offset=2)
    assert (jump >> 28, jump >> 16 & 4095, jump & 2047) == (14, 5, 2)


def test_every_instruction_comes_back():
    rng = np.random.default_rng(1)
    for opcode in CrfOpcode:
        fields = {CrfOpcode.JUMP: JUMP_FIELDS, CrfOpcode.NOP: NOP_FIELDS}.get(opcode, ALU_FIELDS)
        for _ in range(20):
            values = {f.name: int(rng.integers(0, 1 << f.width)) for f in fields if f.name not in ("opcode", "unused")}
            assert decode_instruction(encode_instruction(opcode, **values)) == (opcode, values)


@pytest.mark.parametrize(("opcode", "fields", "expected"), [
    (CrfOpcode.ADD, {"src0": Operand.GRF_A, "src1": Operand.EVEN_BANK}, 0.1 + 3),
    (CrfOpcode.ADD, {"src0": Operand.GRF_A, "src1": Operand.SRF_A, "src1_index": 2}, 0.1 + 12),
    (CrfOpcode.MUL, {"src0": Operand.EVEN_BANK, "src1": Operand.SRF_M, "src1_index": 1}, 3 * 1),
    (CrfOpcode.MAC, {"src0": Operand.GRF_A, "src1": Operand.EVEN_BANK}, 0.7 + 0.1 * 3),
    (CrfOpcode.MAD, {"src0": Operand.GRF_A, "src1": Operand.EVEN_BANK, "src2": Operand.SRF_A, "src1_index": 3}, 0.1 * 3 + 13),
    (CrfOpcode.MOV, {"src0": Operand.EVEN_BANK}, 3),
    (CrfOpcode.FILL, {"src0": Operand.EVEN_BANK}, 3),
])
def test_arithmetic(opcode, fields, expected):
    word = encode_instruction(opcode, dst=Operand.GRF_B, dst_index=6, **fields)
    registers = [halves(0.1)] + [halves(0.0)] * 5 + [halves(0.7)]
    scalars = np.array([0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17], np.float16)
    pim = machine([word, EXIT], grf_a=registers, grf_b=registers, srf=scalars, even=halves(3.0))
    pim.read(3)
    got = pim.grf(Operand.GRF_B)[:, 6]
    assert got.shape == (UNITS, 16)
    # Each operation rounds to 11 bits.
    assert np.abs(got.astype(np.float64) - np.float64(expected)).max() <= abs(expected) * 2.0**-10
    assert pim.instructions == 1
    pim.read(3)                     # EXIT
    pim.read(3)
    assert pim.done
    assert pim.instructions == 1


def test_a_mac_rounds_twice():
    a, b, c = np.float16(0.333), np.float16(1.003), np.float16(0.1)
    word = encode_instruction(CrfOpcode.MAC, dst=Operand.GRF_B, src0=Operand.GRF_A, src1=Operand.EVEN_BANK)
    pim = machine([word, EXIT], grf_a=[halves(a)], grf_b=[halves(c)], even=halves(b))
    pim.read(3)
    assert (pim.grf(Operand.GRF_B)[:, 0] == np.float16(c + np.float16(a * b))).all()


def test_relu_and_results_to_a_bank():
    move = encode_instruction(CrfOpcode.MOV, dst=Operand.ODD_BANK, src0=Operand.GRF_A, src0_index=1, relu=1)
    pim = machine([move, EXIT], grf_a=[halves(0.0), halves(-1.0, 2.0)])
    pim.write(5, ZERO, odd=True)
    pim.precharge()
    pim.activate(BANK_ROWS["config"])
    pim.write(CONFIG_COLUMNS["mode"].start, ZERO)
    pim.precharge()
    assert pim.mode is PimMode.HAB
    pim.activate(BANK_ROWS["exit_hab"])
    pim.precharge()
    assert pim.mode is PimMode.SB
    pim.activate(0)
    for unit in range(UNITS):
        np.testing.assert_array_equal(pim.read(5, unit=unit, odd=True).view(np.float16), halves(0.0, 2.0))


def test_pipeline_outputs_can_be_moved():
    mul = encode_instruction(CrfOpcode.MUL, dst=Operand.GRF_B, src0=Operand.GRF_A, src1=Operand.GRF_A)
    move = encode_instruction(CrfOpcode.MOV, dst=Operand.GRF_B, dst_index=4, src0=Operand.M_OUT)
    pim = machine([mul, move, EXIT], grf_a=[halves(3.0)])
    pim.read(0)
    pim.read(0)
    assert (pim.grf(Operand.GRF_B)[:, 4] == 9).all()


def test_jumps_and_nops_take_the_column_commands_that_they_say():
    add = encode_instruction(CrfOpcode.ADD, dst=Operand.GRF_B, src0=Operand.GRF_B, src1=Operand.GRF_A)
    jump, outer = encode_instruction(CrfOpcode.JUMP, count=2, offset=1), encode_instruction(CrfOpcode.JUMP, count=1, offset=3)
    pause = encode_instruction(CrfOpcode.NOP, count=3)
    pim = machine([add, jump, pause, outer, EXIT], grf_a=[halves(1.0)])
    seen = []
    for _ in range(16):
        pim.read(0)
        seen.append(float(pim.grf(Operand.GRF_B)[0, 0, 0]))
    assert seen == [1, 2, 3, 3, 3, 3, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6]
    assert pim.instructions == 3 + 4 + 3 + 4


def test_auto_takes_registers_from_the_address():
    fill = encode_instruction(CrfOpcode.FILL, dst=Operand.GRF_A, src0=Operand.EVEN_BANK, auto=1)
    mac = encode_instruction(CrfOpcode.MAC, dst=Operand.GRF_B, src0=Operand.GRF_A, src1=Operand.EVEN_BANK, auto=1)
    pim = machine([fill, mac, EXIT], even=halves(2.0))
    for column in range(8):
        pim.read(column)
    a = pim.grf(Operand.GRF_A)[0]
    assert [float(row[0]) for row in a] == [0, 0, 0, 2, 0, 0, 0, 0]
    for column in range(8):
        pim.read(column)
    assert float(pim.grf(Operand.GRF_B)[0, 0, 0]) == 4         # all eight into the register of column bits 4:3 and row bit 0


@pytest.mark.parametrize("shape", [(1, 1), (64, 256), (70, 300), (130, 512)])
def test_a_matrix_vector_product(shape):
    rng = np.random.default_rng(sum(shape))
    w, x = rng.normal(size=shape).astype(np.float16), rng.normal(size=shape[1]).astype(np.float16)
    got, instructions = gemv(w, x)
    products = np.abs(w.astype(np.float64)) @ np.abs(x.astype(np.float64))
    steps = 2 * -(-shape[1] // 16) + 2
    assert (np.abs(got - w.astype(np.float64) @ x.astype(np.float64)) <= products * steps * 2.0**-11).all()
    blocks, pairs = -(-shape[0] // 64), -(-shape[1] // 256)
    assert instructions == blocks * (pairs * 128 + 8)          # 64 MACs a tile


def test_the_order_of_sums_is_lane_by_lane():
    rng = np.random.default_rng(5)
    w, x = rng.normal(size=(1, 256)).astype(np.float16), rng.normal(size=256).astype(np.float16)
    lanes = np.zeros(16, np.float16)
    for chunk in range(16):
        part = slice(16 * chunk, 16 * chunk + 16)
        lanes = lanes + x[part] * w[0, part]
    assert gemv(w, x)[0][0] == lanes.astype(np.float32).sum()


def test_speed_against_the_pins():
    assert round(float(gemv_speedup(4096, 4096)), 1) >= 2.9
    assert gemv_speedup(4096, 4096, open_configuration=False) >= 2
    assert gemv_tck(64, 128) == 2 * 157 + 10 + 28 + 8 + 2 + 16 + 14


@pytest.mark.parametrize(("words", "message"), [
    ([], "a program must have between 1 and 32 words, not 0"),
    ([NOP] * 33, "a program must have between 1 and 32 words, not 33"),
    ([NOP], "a program must have an EXIT"),
    ([5 << 28, EXIT], "word 0: opcode must be one of 0, 1, 2, 3, 4, 8, 9, 14, 15, not 5"),
    ([1 << 12, EXIT], "word 0: unused bits of NOP must be 0, not as in 0x00001000"),
    ([NOP, encode_instruction(CrfOpcode.JUMP, count=1, offset=2), EXIT],
     "word 1: offset must be between 1 and 1, so that it stays inside, not 2"),
    ([encode_instruction(CrfOpcode.JUMP, count=1, offset=1), EXIT], "word 0: a JUMP must have an instruction before it"),
    ([NOP, encode_instruction(CrfOpcode.JUMP, count=1, offset=0), EXIT],
     "word 1: offset must be between 1 and 1, so that it stays inside, not 0"),
    ([encode_instruction(CrfOpcode.ADD, dst=Operand.EVEN_BANK, src0=4, src1=4), EXIT],
     "word 0: dst must be one of GRF_A, GRF_B, not 2"),
    ([encode_instruction(CrfOpcode.ADD, dst=Operand.GRF_A, src0=Operand.SRF_M, src1=4), EXIT],
     "word 0: src0 must be one of EVEN_BANK, ODD_BANK, GRF_A, GRF_B, not 6"),
    ([encode_instruction(CrfOpcode.MUL, dst=Operand.GRF_A, src0=4, src1=Operand.SRF_A), EXIT],
     "word 0: src1 must be one of EVEN_BANK, ODD_BANK, GRF_A, GRF_B, SRF_M, not 7"),
    ([encode_instruction(CrfOpcode.MAD, dst=Operand.GRF_A, src0=4, src1=4, src2=Operand.A_OUT), EXIT],
     "word 0: src2 must be one of GRF_A, GRF_B, SRF_A, not 0"),
    ([encode_instruction(CrfOpcode.MAC, dst=Operand.GRF_B, src0=Operand.EVEN_BANK, src1=Operand.ODD_BANK), EXIT],
     "word 0: src0 and src1 must not both be banks, as in MAC: one column command reads one of them"),
    ([encode_instruction(CrfOpcode.MAC, dst=Operand.GRF_B, src0=4, src1=4, src1_index=8), EXIT],
     "word 0: src1_index must be below 8, not 8"),
    ([encode_instruction(CrfOpcode.MAC, dst=Operand.GRF_B, src0=4, src1=4, relu=1), EXIT],
     "word 0: relu must be 0 in MAC, not 1"),
    ([encode_instruction(CrfOpcode.FILL, dst=Operand.GRF_B, src0=4), EXIT],
     "word 0: src0 must be one of EVEN_BANK, ODD_BANK, not 4"),
])
def test_malformed_micro_code_is_refused(words, message):
    with pytest.raises(CrfError, match=f"^{message}$"):
        check_program(words)


def test_impossible_fields_are_refused():
    with pytest.raises(CrfError, match=r"^field of NOP must be one of count, not 'dst'$"):
        encode_instruction(CrfOpcode.NOP, dst=1)
    with pytest.raises(CrfError, match=r"^NOP.count must be between 0 and 2047, not 2048$"):
        encode_instruction(CrfOpcode.NOP, count=2048)
    with pytest.raises(CrfError, match=r"^pairs must be between 1 and 4096, not 0$"):
        gemv_program(0)
    with pytest.raises(CrfError, match=r"^x must be float16 of shape \(4,\), not float16 of shape \(3,\)$"):
        gemv(np.zeros((4, 4), np.float16), np.zeros(3, np.float16))
    with pytest.raises(CrfError, match=r"^weights must fill at most 4096 rows, not 4098$"):
        gemv(np.zeros((64 * 2049, 1), np.float16), np.zeros(1, np.float16))


def test_accesses_that_say_nothing_are_refused():
    with pytest.raises(CrfError, match=r"^data of crf must be 32 bytes for each of at most 4 columns, not 160 bytes$"):
        configure("crf", np.zeros(40, np.uint32))
    with pytest.raises(CrfError, match=r"^data of srf must be 32 bytes for each of at most 1 columns, not 31 bytes$"):
        configure("srf", np.zeros(31, np.uint8))
    for values, said in ((np.zeros((9, 16), np.float16), r"float16 of shape \(9, 16\)"), (np.zeros(16, np.float16),
                         r"float16 of shape \(16,\)"), (np.zeros((1, 16), np.float32), r"float32 of shape \(1, 16\)")):
        with pytest.raises(CrfError, match=rf"^registers must be float16 of shape \(1 to 8, 16\), not {said}$"):
            write_registers("grf_a", values)
    with pytest.raises(CrfError, match=r"^outputs must be a positive integer, not 0$"):
        GemvPlan(outputs=0, inputs=4)
    plan = GemvPlan(outputs=2, inputs=4)
    with pytest.raises(CrfError, match=r"^weights must be float16 of shape \(2, 4\), not float32 of shape \(2, 4\)$"):
        next(plan.banks(np.zeros((2, 4), np.float32)))
    with pytest.raises(CrfError, match=r"^x must be float16 of shape \(4,\), not float64 of shape \(4,\)$"):
        plan.accesses(np.zeros(4))


def test_the_protocol_is_kept():
    pim = HbmPim()
    with pytest.raises(CrfError, match=r"^a column command must have an open row$"):
        pim.read(0)
    pim.activate(1)
    with pytest.raises(CrfError, match=r"^row 0x2 must wait for a PRE, row 0x1 is open$"):
        pim.activate(2)
    with pytest.raises(CrfError, match=r"^data must be 32 bytes, not float16 \(16,\)$"):
        pim.write(0, np.zeros(16, np.float16))
    pim.precharge()
    pim.activate(BANK_ROWS["config"])
    with pytest.raises(CrfError, match=r"^the configuration row must be written in HAB mode$"):
        pim.write(0, ZERO)
    pim.precharge()
    pim.activate(BANK_ROWS["enter_hab"])
    pim.precharge()
    pim.activate(BANK_ROWS["config"])
    with pytest.raises(CrfError, match=r"^column of the configuration row must be one that configures, not 0x2$"):
        pim.write(2, ZERO)
    with pytest.raises(CrfError, match=r"^a program must have an EXIT$"):
        pim.write(0, np.array([1] + [0] * 31, np.uint8))
    assert pim.mode is PimMode.HAB


def test_places_that_there_are_not_are_refused():
    pim = HbmPim()
    with pytest.raises(CrfError, match=r"^row must be between 0 and 16383, not 16384$"):
        pim.activate(1 << 14)
    pim.activate(3)
    for access in (lambda **where: pim.read(where.pop("column", 0), **where),
                   lambda **where: pim.write(where.pop("column", 0), ZERO, **where)):
        with pytest.raises(CrfError, match=r"^column must be between 0 and 31, not 32$"):
            access(column=32)
        with pytest.raises(CrfError, match=r"^unit must be between 0 and 7, not -1$"):
            access(unit=-1)
    with pytest.raises(CrfError, match=r"^row must be between 0 and 16383, not -1$"):
        pim.fill(-1, False, np.zeros((32, 8, 16), np.float16))
    with pytest.raises(CrfError, match=r"^values of a row must be float16 of shape \(32, 8, 16\), not float16 of shape \(32, 16"):
        pim.fill(0, False, np.zeros((32, 16), np.float16))


def test_pim_mode_is_left_before_hab_mode():
    pim = machine([EXIT])
    pim.precharge()
    pim.activate(BANK_ROWS["exit_hab"])
    with pytest.raises(CrfError, match=r"^HAB mode must not be left while PIM mode is on$"):
        pim.precharge()


def test_a_command_to_the_other_bank_is_refused():
    move = encode_instruction(CrfOpcode.MOV, dst=Operand.GRF_A, src0=Operand.ODD_BANK)
    pim = machine([move, EXIT])
    with pytest.raises(CrfError, match=r"^operand ODD_BANK must be of the bank that is addressed, the even one$"):
        pim.read(0)
    assert not pim.grf(Operand.GRF_A).any()


def test_hab_writes_go_to_all_banks():
    pim = HbmPim()
    pim.activate(BANK_ROWS["enter_hab"])
    pim.precharge()
    pim.activate(7)
    pim.write(1, halves(5.0).view(np.uint8))
    assert all((pim.read(1, unit=unit).view(np.float16) == 5).all() for unit in range(UNITS))
    assert not pim.read(1, odd=True).any()
