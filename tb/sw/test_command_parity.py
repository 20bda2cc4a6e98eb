"""Check bits of instructions: what they see, programs with and without them, what cannot have them."""

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause, Opcode
from hw.presets import PRESETS
from sw.assembler import assemble, disassemble
from sw.command_parity import ParityError, syndromes, with_checks, without_checks
from sw.device import DeviceError
from sw.golden.device import GoldenDevice
from sw.kernels.spec import GemmSpec
from sw.perf import predict
from sw.program import load_program, save_program
from sw.runtime import compile_gemm, reference_gemm, run_gemm

PROTECTED = AcceleratorConfig(protection=(("commands", "parity"),))
SPEC = GemmSpec(m=6, n=9, k=10)


def slow_checks(word: int, index: int) -> int:
    """Return which checks fail, bit by bit."""
    ones = [bit for bit in range(64) if (word ^ index) >> bit & 1]
    return sum((sum(bit % 3 == i for bit in ones) & 1) << i for i in range(3))


def test_checks_are_what_the_instruction_set_says():
    words = np.random.default_rng(1).integers(0, 1 << 64, 300, dtype=np.uint64)
    assert syndromes(words).tolist() == [slow_checks(int(word), i) for i, word in enumerate(words)]
    plain = without_checks(words)
    checked = with_checks(plain)
    assert not syndromes(checked).any()
    assert np.array_equal(without_checks(checked), plain)
    assert len(np.unique(checked >> np.uint64(29) & np.uint64(7))) == 8


def test_every_bit_of_a_program():
    code = compile_gemm(PROTECTED, SPEC).code
    for bit in range(64):
        for pc in range(len(code)):
            flipped = code.copy()
            flipped[pc] ^= np.uint64(1 << bit)
            assert np.flatnonzero(syndromes(flipped)).tolist() == [pc]


def test_a_program_is_the_same_but_for_its_checks():
    plain, program = compile_gemm(PRESETS["systolic-4x4"], SPEC), compile_gemm(PROTECTED, SPEC)
    assert program.parity
    assert not plain.parity
    assert np.array_equal(without_checks(program.code), plain.code)
    assert predict(PROTECTED, program).cycles == predict(PRESETS["systolic-4x4"], plain).cycles
    rng = np.random.default_rng(2)
    a, b = rng.integers(-128, 128, (6, 10)).astype(np.int8), rng.integers(-128, 128, (10, 9)).astype(np.int8)
    made, _ = run_gemm(GoldenDevice(PROTECTED).open(program.memory_bytes), program, SPEC, a=a, b=b, scale=0.01)
    assert np.array_equal(made, reference_gemm(a, b, scale=0.01))


def test_the_golden_device_stops_at_a_flipped_bit():
    program = compile_gemm(PROTECTED, SPEC)
    program.code[7] ^= np.uint64(1 << 40)
    session = GoldenDevice(PROTECTED).open(program.memory_bytes)
    with pytest.raises(DeviceError, match=r"stopped: COMMAND_PARITY in the sequencer at instruction 7 \(0x2\)$") as caught:
        session.run(program, {"a": 0, "b": 0, "c": 0, "scale": 0})
    assert caught.value.cause == ErrorCause.COMMAND_PARITY


def test_the_file_of_a_program_keeps_it(tmp_path):
    program = compile_gemm(PROTECTED, SPEC)
    save_program(program, tmp_path / "program.safetensors")
    assert load_program(tmp_path / "program.safetensors").parity


def test_the_assembler_sets_check_bits():
    words = assemble("set load.rows, 5\nload\nhalt", parity=True)
    assert not syndromes(words).any()
    assert disassemble(without_checks(words)) == "set load.rows, 5\nload\nhalt\n"


def test_what_has_no_room_for_check_bits():
    with pytest.raises(ParityError, match=r"^field c of instruction 1 \(ADD\) must be below 32 to have check bits, not 64$"):
        with_checks(np.array([Opcode.HALT, Opcode.ADD | 64 << 24], np.uint64))
    with pytest.raises(ParityError, match=r"^field c of instruction 0 \(0xff\) must be below 32 to have check bits, not 255$"):
        assemble(".word 0xffffffff", parity=True)
