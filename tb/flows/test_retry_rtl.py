"""Repeated runs on the RTL: flipped bits of the code in memory, flipped bits of the accelerator's own state."""

import numpy as np
import pytest

from flows.rtl_device import RtlDevice, RtlSession
from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from sw.device import ProtectionError
from sw.kernels.spec import GemmSpec
from sw.retry import RetryingSession
from sw.runtime import compile_gemm, gemm_args, place_operands, read_output, reference_gemm, run_gemm
from sw.wash import wash_program

CONFIG = AcceleratorConfig(protection=(("*", "parity"), ("addresses", "residue3")))
SPEC = GemmSpec(m=10, n=9, k=11)
MEMORY = 1 << 16
FLIPS = 240


class FlippingSession(RtlSession):
    """A session that inverts a bit of the model's state once, some cycles after the next doorbell: `flip` = cycles, byte, bit."""

    flip: tuple[int, int, int] | None = None

    def _advance(self, cycles: int) -> bool:
        if self.flip is not None:
            (after, byte, bit), self.flip = self.flip, None
            if self.sim.run(after):
                return True
            snapshot = self.sim.snapshot()
            snapshot.state[byte] ^= 1 << bit
            self.sim.restore(snapshot)
        return super()._advance(cycles)


class FlippingDevice(RtlDevice):
    session_type = FlippingSession


@pytest.fixture(scope="module")
def session():
    session = FlippingDevice(CONFIG, watchdog=3000).open(MEMORY)
    yield session
    session.close()


@pytest.fixture(scope="module")
def gemm():
    rng = np.random.default_rng(0)
    operands = {"a": rng.integers(-128, 128, (SPEC.m, SPEC.k), np.int8), "b": rng.integers(-128, 128, (SPEC.k, SPEC.n), np.int8)}
    return compile_gemm(CONFIG, SPEC), operands, reference_gemm(operands["a"], operands["b"], scale=0.01)


def test_without_faults_nothing_is_repeated(session, gemm):
    program, operands, expected = gemm
    made, result = run_gemm(RetryingSession(CONFIG, session, retries=1), program, SPEC, **operands, scale=0.01)
    assert np.array_equal(made, expected)
    assert result.counters["retries"] == 0


def test_a_flipped_bit_of_the_code_stops_it(session, gemm):
    """Three bits of every instruction: the run stops there, with the bit's check, or the instruction is never reached."""
    program, operands, expected = gemm
    place_operands(session, program, SPEC, **operands)
    stops = []
    for pc in range(len(program.code)):
        for bit in {(7 * pc) % 64, (11 * pc + 29) % 64, (13 * pc + 63) % 64}:
            session.run(program, gemm_args(program, 0.01))          # so that the code is in its place
            session.memory[program.code_addr + 8 * pc + bit // 8] ^= 1 << bit % 8
            try:
                made = read_output(program, session.run(program, gemm_args(program, 0.01)).outputs)
            except ProtectionError as error:
                stops.append((error.cause, error.pc, error.addr) == (ErrorCause.COMMAND_PARITY, pc, 1 << bit % 3))
            else:
                assert np.array_equal(made, expected)
            program.place(session.memory)
    assert all(stops)
    assert len(stops) > 2 * len(program.code)


def test_and_is_put_right(session, gemm):
    program, operands, expected = gemm
    retrying = RetryingSession(CONFIG, session, retries=1)
    place_operands(session, program, SPEC, **operands)
    retrying.run(program, gemm_args(program, 0.01))             # so that the code is in its place
    session.memory[program.code_addr + 8 * 30 + 4] ^= 1
    result = retrying.run(program, gemm_args(program, 0.01))
    assert np.array_equal(read_output(program, result.outputs), expected)
    assert result.counters["retries"] == 1


def test_a_flipped_register(session, gemm):
    """A register that the host has set, wherever the model keeps it or a copy of it: with the register itself, parity tells."""
    program, operands, expected = gemm
    retrying = RetryingSession(CONFIG, session, retries=1)
    number, repeated = 0xA5C3961E, 0
    session.registers.write("ARG15", number)
    state = session.sim.snapshot().state.tobytes()
    places = [place for place in range(len(state)) if state.startswith(number.to_bytes(4, "little"), place)]
    assert places
    for place in places:
        for cycle in (60, 200):
            session.registers.write("ARG15", number)
            session.flip = cycle, place + cycle % 4, cycle % 7
            made, found = run_gemm(retrying, program, SPEC, **operands, scale=0.01)
            assert np.array_equal(made, expected)
            repeated += found.counters["retries"]
    assert repeated >= 2


def test_flipped_memories(session, gemm):
    """Words of scratchpad and accumulator, found as what a wash changes and then the product, at any time of a run."""
    program, operands, expected = gemm
    session.sim.reset()
    before = session.sim.snapshot()
    session.run(wash_program(CONFIG, program.code_addr))
    after = session.sim.snapshot()
    changed = np.flatnonzero(before.state != after.state)
    words = changed[3 * len(changed) // 10:-(len(changed) // 10)]   # what is at either end may be something else
    assert len(words) > 1000
    run_gemm(session, program, SPEC, **operands, scale=0.01)
    words = np.intersect1d(words, np.flatnonzero(after.state != session.sim.snapshot().state))
    assert len(words) > 40
    retrying, rng, repeated = RetryingSession(CONFIG, session, retries=1), np.random.default_rng(1), 0
    for _ in range(FLIPS):
        session.flip = int(rng.integers(1, 330)), int(rng.choice(words)), int(rng.integers(8))
        made, found = run_gemm(retrying, program, SPEC, **operands, scale=0.01)
        assert np.array_equal(made, expected)
        repeated += found.counters["retries"]
    assert repeated > 2
