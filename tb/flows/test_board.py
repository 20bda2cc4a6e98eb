"""Boards: the RTL of a whole board in Verilator behind the host's driver, over its simulated serial line."""

import dataclasses
import re

import numpy as np
import pytest

from flows.board_device import BoardDevice
from flows.board_sim import BoardSim
from flows.native_sim import BusError
from hw.bridge.config import BoardConfig
from hw.bridge.protocol import SYNC
from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from hw.presets import preset_named
from hw.regs import COUNTERS
from sw.assembler import assemble
from sw.bridge import BridgeClient, BridgeError, BridgeInfo
from sw.device import DeviceError, DeviceHang
from sw.golden.device import GoldenDevice
from sw.kernels.spec import GemmSpec
from sw.program import Program
from sw.runtime import compile_gemm, run_gemm
from tb.bridge.boards import MEMORY, TINY, TINY_BOARD

SPEC = GemmSpec(m=5, n=3, k=7)
WATCHDOG = 2000


class NoisyLine:
    """A transport that damages what passes: `noise` precedes a request, `flips` are bits (of bytes sent in all) turned over."""

    def __init__(self, inner):
        self.inner = inner
        self.noise, self.flips, self.lost_replies = b"", set(), 0
        self._sent = 0

    def write(self, data):
        noise, self.noise = self.noise, b""
        damaged = bytearray(data)
        for byte, bit in self.flips:
            if self._sent <= byte < self._sent + len(data):
                damaged[byte - self._sent] ^= 1 << bit
        self._sent += len(data)
        self.inner.write(noise + bytes(damaged))

    def read(self, count, timeout):
        found = self.inner.read(count, timeout)
        if self.lost_replies and found:
            self.lost_replies -= 1
            while self.inner.read(64, 0.00005):
                pass
            return b""
        return found

    def close(self):
        self.inner.close()


@pytest.fixture
def line():
    line = NoisyLine(BoardSim(TINY, TINY_BOARD))
    yield line
    line.close()


@pytest.fixture
def client(line):
    return BridgeClient(line, timeout=0.002, silence=0.0003)


@pytest.fixture
def session(client):
    return BoardDevice(TINY, lambda: client, watchdog=WATCHDOG).open(MEMORY)


def operands(seed=0):
    random, shapes = np.random.default_rng(seed), {"a": (SPEC.m, SPEC.k), "b": (SPEC.k, SPEC.n)}
    return {"scale": 0.01, **{name: random.integers(-128, 128, shape, np.int8) for name, shape in shapes.items()}}


def program(text):
    return Program(name="probe", config_digest=TINY.digest(), code=assemble(text), code_addr=0, kernels=((0, "first"),),
                   regions=())


def test_a_gemm_is_the_golden_one(session, line):
    gemm, golden = compile_gemm(TINY, SPEC), GoldenDevice(TINY).open(MEMORY)
    for seed in range(2):
        got, result = run_gemm(session, gemm, SPEC, **operands(seed))
        want, expected = run_gemm(golden, gemm, SPEC, **operands(seed))
        assert np.array_equal(got, want)
        assert result.counters.keys() == {counter.name for counter in COUNTERS}
        assert {name: result.counters[name] for name in expected.counters} == expected.counters
        assert result.cycles == result.counters["cycles"] > 0
    session.fetch()
    assert np.array_equal(session.memory, golden.memory)
    assert session.client.repeats == 0
    assert line.inner.framing_errors == 0


@pytest.mark.full
def test_the_preset_for_fpgas_is_driven_like_any_device():
    """The board that is placed and routed, behind the driver that a real one has."""
    config, board, spec = preset_named("systolic-fpga-4x4"), BoardConfig(baud=6_250_000), GemmSpec(m=9, n=10, k=11)
    device = BoardDevice(config, lambda: BridgeClient(BoardSim(config, board), timeout=0.002, silence=0.0003))
    random = np.random.default_rng(3)
    given = {"scale": 0.01, "a": random.integers(-128, 128, (spec.m, spec.k), np.int8),
             "b": random.integers(-128, 128, (spec.k, spec.n), np.int8)}
    gemm = compile_gemm(config, spec)
    session = device.open(board.memory_bytes)
    got, _ = run_gemm(session, gemm, spec, **given)
    want, _ = run_gemm(GoldenDevice(config).open(board.memory_bytes), gemm, spec, **given)
    assert np.array_equal(got, want)
    session.close()


def test_the_same_bridge_answers_over_axi_stream():
    board = BoardSim(TINY, dataclasses.replace(TINY_BOARD, link="axis"))
    client = BridgeClient(board, timeout=0.002, silence=0.0003)
    assert client.info() == BridgeInfo(memory_bytes=MEMORY, clock_hz=TINY_BOARD.clock_hz, config_digest=TINY.digest())
    data = bytes(range(256)) * 3
    client.write_memory(77, data)
    assert client.read_memory(77, len(data)) == data
    assert client.repeats == 0
    client.close()


def test_only_pages_that_differ_go_over_the_line(session):
    gemm = compile_gemm(TINY, SPEC)
    run_gemm(session, gemm, SPEC, **operands())
    sent = session.bytes_sent
    run_gemm(session, gemm, SPEC, **operands())
    assert session.bytes_sent == sent
    session.memory[MEMORY - 1] = 7
    run_gemm(session, gemm, SPEC, **operands())
    assert session.bytes_sent == sent + 64
    assert session.client.read_memory(MEMORY - 64, 64) == bytes(63) + b"\7"


def test_errors_of_the_accelerator_are_device_errors(session):
    with pytest.raises(DeviceError, match=r"^kernel 'first' of program 'probe' stopped: ILLEGAL_INSTRUCTION in the sequencer "
                       r"at instruction 0 ") as caught:
        session.run(program(".word 0\nhalt"))
    assert caught.value.cause == ErrorCause.ILLEGAL_INSTRUCTION
    outside = f"set load.rows, 1\nset load.row_bytes, 8\nset load.dram_addr, {MEMORY}\nload\nhalt"
    with pytest.raises(DeviceError) as caught:
        session.run(program(outside))
    assert (caught.value.cause, caught.value.addr) == (ErrorCause.BUS_READ, MEMORY)
    with pytest.raises(DeviceHang, match=f"no progress for {WATCHDOG} cycles at instruction 0; waiting for semaphores: seq"):
        session.run(program("wait 1\nhalt"))
    got, _ = run_gemm(session, compile_gemm(TINY, SPEC), SPEC, **operands())
    want, _ = run_gemm(GoldenDevice(TINY).open(MEMORY), compile_gemm(TINY, SPEC), SPEC, **operands())
    assert np.array_equal(got, want)


def test_the_host_gives_up_where_the_hardware_does_not(client):
    session = BoardDevice(TINY, lambda: client, watchdog=(1 << 31) - 1).open(MEMORY)
    session._patience = 0.02
    with pytest.raises(DeviceHang, match="its watchdog does not end it; waiting for semaphores: sequencer"):
        session.run(program("wait 1\nhalt"))
    gemm = compile_gemm(TINY, SPEC)                    # the next run resets it first
    got, _ = run_gemm(session, gemm, SPEC, **operands())
    want, _ = run_gemm(GoldenDevice(TINY).open(MEMORY), gemm, SPEC, **operands())
    assert np.array_equal(got, want)


def test_noise_damage_and_lost_replies_are_survived(session, line):
    gemm = compile_gemm(TINY, SPEC)
    want, _ = run_gemm(GoldenDevice(TINY).open(MEMORY), gemm, SPEC, **operands())
    line.noise = bytes([SYNC, 0x03, 0x00]) + b"garbage\xff\x00" * 3
    first = line._sent
    line.flips = {(first + 40, 3), (first + 200, 0), (first + 777, 7), (first + 900, 5)}
    line.lost_replies = 2
    got, result = run_gemm(session, gemm, SPEC, **operands())
    assert np.array_equal(got, want)
    assert session.client.repeats >= 5
    assert result.counters["macs"] == SPEC.m * SPEC.n * SPEC.k


def test_a_lost_answer_to_the_doorbell_does_not_ring_it_twice(session, line):
    gemm = compile_gemm(TINY, SPEC)
    honest, starts = session.registers.write, []

    def write(name, value=None, **fields):
        if name == "CONTROL":
            starts.append(line.inner.cycle)
            line.lost_replies = 1
        honest(name, value, **fields)

    session.registers.write = write
    _, result = run_gemm(session, gemm, SPEC, **operands())
    assert len(starts) == session.client.repeats == 1
    assert result.counters["instructions"] > 0


def test_a_session_begins_with_zeros_whatever_was_there(client):
    client.write_memory(100, b"left over")
    session = BoardDevice(TINY, lambda: client).open(MEMORY)
    session.fetch()
    assert not session.memory.any()


def test_a_reset_makes_the_accelerator_idle_and_keeps_the_memory(client, line):
    from flows.registers import Registers

    registers = Registers(client)
    client.write_memory(0, assemble("wait 1\nhalt").astype("<u8").tobytes())
    registers.write("PROGRAM_LENGTH", 2)
    registers.write("CONTROL", start=1)
    assert registers.fields("STATUS")["busy"]
    client.reset()
    assert not registers.fields("STATUS")["busy"]
    assert client.read_memory(0, 16) == assemble("wait 1\nhalt").astype("<u8").tobytes()


def test_another_config_or_too_much_memory_is_refused(client):
    other = AcceleratorConfig()
    with pytest.raises(BusError, match=f"^the board must be made of config {other.digest()}, not {TINY.digest()}$"):
        BoardDevice(other, lambda: client).open(MEMORY)


def test_more_memory_than_there_is_is_refused(client):
    with pytest.raises(ValueError, match=f"^memory_bytes must be at most {MEMORY} on this board, not {MEMORY + 1}$"):
        BoardDevice(TINY, lambda: client).open(MEMORY + 1)


@pytest.mark.parametrize(("call", "text"), [
    (lambda: BoardDevice(TINY, lambda: None, watchdog=0), "watchdog must be between 1 and 2147483647 cycles, not 0"),
    (lambda: BoardDevice(TINY, lambda: None).open(0), "memory_bytes must be at least 1, not 0"),
    (lambda: BridgeClient(None, attempts=0), "attempts must be at least 1, not 0"),
])
def test_impossible_values_are_refused(call, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        call()


class Silent:
    """A line that nobody listens to."""

    def write(self, data):
        """Send nowhere."""

    def read(self, count, timeout):
        return b""

    def close(self):
        """Do nothing."""


def test_a_board_that_does_not_answer_is_named():
    with pytest.raises(BridgeError, match=r"^INFO of 18 bytes at 0x0: no answer after 3 attempts$"):
        BridgeClient(Silent(), attempts=3).info()


def test_what_the_board_refuses_is_named(client):
    with pytest.raises(BridgeError, match=r"^READ_REGISTERS of 4 bytes at 0x3fc: answer BUS_ERROR after 1 attempts$"):
        client.read(0x3FC)
    with pytest.raises(BridgeError, match=rf"^READ_MEMORY of 4 bytes at {MEMORY:#x}: answer BAD_ADDRESS after 4 attempts$"):
        client.read_memory(MEMORY, 4)


def test_a_closed_board_says_so():
    board = BoardSim(TINY, TINY_BOARD)
    board.close()
    with pytest.raises(ValueError, match=r"^the board is closed$"):
        board.read(1, 0.1)
