"""The RTL as a device: results, counters, errors, hangs, and that a session survives them."""

import numpy as np
import pytest

import flows.rtl_device
from flows.native_sim import BusError, MemoryTiming, NativeSim
from flows.rtl_device import RtlDevice, RtlSession
from hw.isa import ErrorCause
from hw.presets import PRESETS
from hw.regs import COUNTERS
from sw.assembler import assemble
from sw.device import DeviceError, DeviceHang
from sw.golden.device import GoldenDevice
from sw.kernels.spec import GemmSpec
from sw.program import Program, Region
from sw.runtime import compile_gemm, gemm_args, run_gemm

CONFIG = PRESETS["systolic-4x4"]
MEMORY = 1 << 16
SPEC = GemmSpec(m=10, n=9, k=11)
LONG = 3000                    # of a watchdog, cycles


@pytest.fixture(scope="module")
def device() -> RtlDevice:
    return RtlDevice(CONFIG, watchdog=LONG)


@pytest.fixture
def session(device):
    session = device.open(MEMORY)
    yield session
    session.close()


def program(text: str, *, name: str = "probe", code_addr: int = 0, arguments: dict[str, int] | None = None,
            regions: tuple[Region, ...] = ()) -> Program:
    return Program(name=name, config_digest=CONFIG.digest(), code=assemble(text), code_addr=code_addr, arguments=arguments or {},
                   kernels=((0, "first"), (2, "second")), regions=regions)


def operands(seed: int = 0) -> dict[str, np.ndarray]:
    random, shapes = np.random.default_rng(seed), {"a": (SPEC.m, SPEC.k), "b": (SPEC.k, SPEC.n)}
    return {name: random.integers(-128, 128, shape, np.int8) for name, shape in shapes.items()}


def test_a_snapshot_holds_blocks_that_are_apart_and_goes_into_another_session_too(device):
    gemm = compile_gemm(CONFIG, SPEC)
    one, other = device.open(MEMORY), device.open(MEMORY)
    _, expected = run_gemm(one, gemm, SPEC, **operands(), scale=0.01)
    one._start(gemm, gemm.argument_values(gemm_args(gemm, 0.01)))
    for _ in range(3):                                                      # loads, steps of the array, the vector unit
        assert not one.sim.run(expected.cycles // 4)
        snapshot, at = one.sim.snapshot(), one.sim.cycle
        ends = []
        for session in (one, other, one):
            session.sim.restore(snapshot)
            assert session.sim.run(expected.cycles)
            ends.append((session.sim.cycle - at, session.memory.tobytes()))
            run_gemm(session, gemm, SPEC, **operands(1), scale=0.02)        # and nothing of this is left
        assert ends[0] == ends[1] == ends[2]
        one.sim.restore(snapshot)
    one.close()
    other.close()


def test_a_gemm_is_the_golden_one_and_is_counted(session):
    gemm = compile_gemm(CONFIG, SPEC)
    golden = GoldenDevice(CONFIG).open(MEMORY)
    for seed in range(2):
        got, result = run_gemm(session, gemm, SPEC, **operands(seed), scale=0.01)
        want, expected = run_gemm(golden, gemm, SPEC, **operands(seed), scale=0.01)
        assert np.array_equal(got, want)
        assert result.counters.keys() == {counter.name for counter in COUNTERS}
        assert {name: result.counters[name] for name in expected.counters} == expected.counters
        assert result.cycles == result.counters["cycles"] > 0
    assert session.run_cycles > 2 * result.cycles
    assert session.run_seconds > 0


def test_timing_changes_cycles_and_nothing_else(device):
    gemm, cycles = compile_gemm(CONFIG, SPEC), []
    for timing in (MemoryTiming(), MemoryTiming(latency=100), MemoryTiming(bandwidth=0.1), MemoryTiming(stall=0.5, seed=4)):
        session = device.open(MEMORY)
        session.sim.configure(timing)
        got, result = run_gemm(session, gemm, SPEC, **operands(), scale=0.01)
        cycles.append(result.cycles)
        if timing == MemoryTiming():
            first = got
        assert np.array_equal(got, first)
        session.close()
    assert min(cycles[1:]) > cycles[0]


@pytest.mark.parametrize(("text", "cause", "pc", "kernel"), [
    (".word 0\nhalt", ErrorCause.ILLEGAL_INSTRUCTION, 0, "first"),
    ("fence\nfence\nset load.rows, 1\nset load.row_bytes, 16\nset load.dram_addr, 0x8000\nload\nhalt",
     ErrorCause.BUS_READ, 5, "second"),
    ("fence", ErrorCause.PROGRAM_COUNTER, 1, "first"),
])
def test_an_error_names_kernel_instruction_and_cause_and_the_session_goes_on(session, text, cause, pc, kernel):
    session.sim.inject(0x8000, 0x800F)
    pattern = rf"^kernel '{kernel}' of program 'probe' stopped: {cause.name} in the \w+( unit)? at instruction {pc} \(0x"
    with pytest.raises(DeviceError, match=pattern) as caught:
        session.run(program(text))
    assert not isinstance(caught.value, DeviceHang)
    assert (caught.value.cause, caught.value.pc, caught.value.kernel) == (cause, pc, kernel)
    assert session.run(program("halt")).counters["instructions"] == 1


HANG = (r"^kernel 'second' of program 'probe' hangs: no progress for \d+ cycles at instruction \d; "
        r"{remark}waiting for semaphores: {waiting}; commands queued: {queued}; semaphores: {counts}$")


@pytest.mark.parametrize(("text", "waiting", "queued", "counts"), [
    ("signal 3\nsignal 3\nwait 0\nhalt", "sequencer", "load 0, matrix 0, vector 0, store 0", "s3=2"),
    ("fence\nfence\nmatrix wait 1\nmatrix wait 1\nstore wait 2\nhalt", "matrix, store, sequencer|matrix, store",
     "load 0, matrix 2, vector 0, store 1", "all zero"),
])
def test_a_hang_shows_what_waits_for_what(session, text, waiting, queued, counts):
    pattern = HANG.format(remark="", waiting=f"({waiting})", queued=queued, counts=counts)
    with pytest.raises(DeviceHang, match=pattern) as caught:
        session.run(program(text))
    assert caught.value.cause == ErrorCause.WATCHDOG
    assert session.run(program("halt")).counters["instructions"] == 1


def test_the_host_ends_a_hang_that_the_hardware_does_not(session, monkeypatch):
    write = session.registers.write
    monkeypatch.setattr(session.registers, "write",
                        lambda name, value=None, **fields: write(name, 0 if name == "WATCHDOG" else value, **fields))
    pattern = HANG.format(remark="its watchdog does not end it; ", waiting="sequencer", queued=".*", counts="all zero")
    with pytest.raises(DeviceHang, match=pattern):
        session.run(program("fence\nfence\nwait 0\nhalt"))
    monkeypatch.undo()
    assert session.run(program("halt")).counters["instructions"] == 1


def test_a_bus_that_does_not_answer_is_a_hang_and_a_reset_ends_it(session):
    session.memory[:] = 7
    session.sim.configure(MemoryTiming(latency=1_000_000))
    with pytest.raises(DeviceHang, match=r"^kernel 'first' of program 'probe' hangs: "):
        session.run(program("halt"))
    session.sim.configure(MemoryTiming())
    assert session.run(program("halt")).counters["instructions"] == 1
    assert (session.memory[1024:] == 7).all()


def test_programs_that_share_memory_are_placed_again(session):
    short, long = program("halt"), program("fence\nfence\nhalt")
    apart = program("fence\nhalt", code_addr=0x1000)
    for each, instructions in ((short, 1), (apart, 2), (long, 3), (short, 1), (long, 3), (apart, 2)):
        assert session.run(each).counters["instructions"] == instructions


def test_constants_are_placed_once_and_memory_lives_on(session):
    constant = Region(name="c", addr=0x2000, size=16, role="constant", data=np.arange(16, dtype=np.uint8))
    output = Region(name="o", addr=0x3000, size=16, role="output")
    copy = program("""
        set load.rows, 1
        set load.row_bytes, 16
        set load.dram_addr, 0x2000
        load signal 0
        set store.rows, 1
        set store.row_bytes, 16
        set store.dram_addr, r16
        store wait 0
        halt
    """, arguments={"to": 0}, regions=(constant, output))
    assert session.run(copy, {"to": 0x3000}).outputs["o"].tolist() == list(range(16))
    session.memory[0x2000:0x2010] = 9
    assert session.run(copy, {"to": 0x3000}).outputs["o"].tolist() == [9] * 16
    with pytest.raises(ValueError, match=r"^argument 'to' of program 'probe' must be given$"):
        session.run(copy)
    with pytest.raises(ValueError, match=r"^argument must be one of to, not 'from'$"):
        session.run(copy, {"to": 0, "from": 1})


def test_progress_is_reported(device):
    seen = []
    session = RtlSession(CONFIG, NativeSim(device.build, MEMORY), 1000, seen.append)
    with pytest.raises(DeviceHang):
        session.run(program("fence\nfence\nwait 0\nhalt"))
    assert seen
    assert seen == sorted(seen)
    session.close()


def test_waves_are_those_of_the_first_session(device, monkeypatch):
    asked, opened = [], []
    monkeypatch.setattr(flows.rtl_device, "build_native", lambda *args, **options: asked.append(options["waves"]) or device.build)
    monkeypatch.setattr(NativeSim, "waves", lambda sim, file: opened.append(str(file)))
    waving = RtlDevice(CONFIG, waves="run.vcd")
    for _ in range(2):
        waving.open(MEMORY).close()
    assert asked == [".vcd"]
    assert opened == ["run.vcd"]


def test_what_cannot_be_is_refused(device, session):
    with pytest.raises(ValueError, match=r"^program 'probe' must be compiled for config \w{12}, not 000000000000$"):
        session.run(Program(name="probe", config_digest="0" * 12, code=assemble("halt"), code_addr=0, regions=()))
    with pytest.raises(ValueError, match=r"^program 'probe' must fit into 65536 bytes of memory, not need \d+$"):
        session.run(program("halt", code_addr=MEMORY))
    with pytest.raises(ValueError, match=r"^memory_bytes must be between 1 and 2\*\*32, not 0$"):
        device.open(0)
    with pytest.raises(ValueError, match=r"^watchdog must be between 1 and 2147483647 cycles, not 0$"):
        RtlDevice(CONFIG, watchdog=0)


def test_another_design_behind_the_registers_is_noticed(device):
    class Foreign:
        def read(self, addr: int) -> int:
            return addr

    with pytest.raises(BusError, match=r"^registers ID and VERSION read 0x00000000 and 4, not 0x4845444C and 1$"):
        RtlSession(CONFIG, Foreign(), 1)
