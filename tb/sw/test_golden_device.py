"""The golden device against the definitions of its blocks, and its errors."""

import numpy as np
import pytest

from hw.isa import DESCRIPTORS, ErrorCause, Unit
from sw.assembler import Assembler, assemble
from sw.device import DeviceError, DeviceHang
from sw.golden.device import GoldenDevice
from sw.golden.refusal import Refusal
from sw.golden.state import State
from sw.golden.units import run_load, run_matrix, run_store, run_vector
from sw.program import Program, Region
from tb.programs import faulty_programs, random_program
from tb.sw.configs import CONFIGS

SQUARE = [name for name in CONFIGS if name.startswith("systolic")]


def state(config, memory_bytes=1 << 14, seed=0) -> State:
    """Return memories full of random bytes."""
    rng = np.random.default_rng(seed)
    high = 1 << (config.acc_width - 1)
    return State(
        config=config, memory=rng.integers(0, 256, memory_bytes, dtype=np.uint8),
        scratchpad=rng.integers(0, 256, config.scratchpad_bytes, dtype=np.uint8),
        accumulator=rng.integers(-high, high, (config.accumulator_rows, config.columns)),
        rows=np.full(config.vector_rows, np.nan, np.float32), counters=dict.fromkeys(("macs", "bytes_written", "saturations"), 0))


def fields(unit, **values) -> dict[str, int]:
    """Return a descriptor, zero but for `values`."""
    return {field.name: 0 for field in DESCRIPTORS[unit]} | values


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if not config.float_activations])
@pytest.mark.parametrize("dataflow", ["ws", "os"])
@pytest.mark.parametrize("seed", range(3))
def test_matrix_adds_like_the_array(name, dataflow, seed):
    """Element by element: each psum of R rows (WS) or os_depth steps (OS) is added with saturation, in order of k."""
    config = CONFIGS[name]
    if dataflow not in config.dataflows:
        config = CONFIGS["systolic-4x4"]
    memories = state(config, seed=seed)
    rng = np.random.default_rng(seed)
    m, n = int(rng.integers(1, 9)), int(rng.integers(1, 2 * config.columns + 2))
    k = int(rng.integers(1, 40))
    if ceil_groups(n, config.columns) * 9 > config.accumulator_rows or 40 * config.line_bytes * 4 > config.scratchpad_bytes:
        m, n, k = 2, min(n, config.columns), min(k, 5)
    a_slot, w_slot = config.activation_slot_bytes, config.weight_slot_bytes
    along = m if dataflow == "ws" else k
    groups = ceil_groups(k if dataflow == "ws" else m, config.rows)
    n_groups = ceil_groups(n, config.columns)
    command = fields(
        Unit.MATRIX, activation_addr=a_slot, activation_stride=a_slot * groups, activation_tile_stride=a_slot,
        weight_addr=2 * w_slot, weight_stride=w_slot * n_groups, weight_tile_stride=w_slot, acc_addr=1, acc_tile_stride=m,
        m=m, n=n, k=k, dataflow=int(dataflow == "os"), accumulate=int(rng.integers(0, 2)))
    assert along * groups * a_slot < config.scratchpad_bytes
    before = memories.accumulator.copy()
    run_matrix(memories, command)

    pad, high, bits = memories.scratchpad, (1 << (config.acc_width - 1)) - 1, config.weight.bits
    step = config.rows if dataflow == "ws" else config.os_depth

    def activation(i: int, x: int) -> int:
        row, lane = (i, x) if dataflow == "ws" else (x, i)
        return int(pad[a_slot + row * a_slot * groups + lane // config.rows * a_slot + lane % config.rows].view(np.int8))

    def weight(x: int, j: int) -> int:
        lane = j % config.columns
        byte = int(pad[2 * w_slot + x * w_slot * n_groups + j // config.columns * w_slot + lane * bits // 8])
        return byte - 256 * (byte > 127) if bits == 8 else ((byte >> 4 * (lane % 2) & 15) ^ 8) - 8

    for i in range(m):
        for j in range(n):
            row = 1 + j // config.columns * m + i
            total = int(before[row, j % config.columns]) if command["accumulate"] else 0
            for start in range(0, k, step):
                total += sum(activation(i, x) * weight(x, j) for x in range(start, min(k, start + step)))
                total = max(-high - 1, min(high, total))
            assert memories.accumulator[row, j % config.columns] == total


def ceil_groups(size: int, group: int) -> int:
    """Return the number of groups."""
    return -(-size // group)


@pytest.mark.parametrize(("largest", "saturates"), [(127, True), (3, False)])
def test_saturated_rows_are_counted(largest, saturates):
    """Both ways of adding up are taken: step by step where a sum may leave 16 bits, in one product where none can."""
    memories = state(CONFIGS["acc16"])
    rng = np.random.default_rng(1)
    values = rng.integers(-largest, largest + 1, memories.scratchpad.shape).astype(np.int8)
    memories.scratchpad[:] = values.view(np.uint8)
    run_matrix(memories, fields(
        Unit.MATRIX, activation_stride=32, activation_tile_stride=8, weight_addr=4096, weight_stride=4, weight_tile_stride=128,
        acc_tile_stride=10, m=10, n=8, k=30))
    assert (memories.counters["saturations"] > 0) == saturates
    assert np.abs(memories.accumulator).max() <= 32768


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("transpose", [0, 1])
def test_load_byte_by_byte(name, transpose):
    config = CONFIGS[name]
    beat = config.beat_bytes
    rows, row_bytes = min(beat + 3, 20), min(beat + 1, 18)
    across, along = (row_bytes, rows) if transpose else (rows, row_bytes)
    padded = ceil_groups(along, beat) * beat
    if across * padded > config.scratchpad_bytes:
        rows, row_bytes, across, along, padded = 3, 3, 3, 3, beat
    memories = state(config)
    before = memories.scratchpad.copy()
    command = fields(Unit.LOAD, dram_addr=2 * beat, dram_stride=3 * beat, rows=rows, row_bytes=row_bytes, addr=0, stride=padded,
                     transpose=transpose)
    run_load(memories, command)
    expected = before.copy()
    expected[:across * padded] = 0
    for i in range(rows):
        for j in range(row_bytes):
            place = j * padded + i if transpose else i * padded + j
            expected[place] = memories.memory[2 * beat + i * 3 * beat + j]
    np.testing.assert_array_equal(memories.scratchpad, expected)


@pytest.mark.parametrize("transpose", [0, 1])
def test_nibbles_become_bytes(transpose):
    config = CONFIGS["systolic-4x4"]
    beat, (rows, row_bytes) = config.beat_bytes, (3, 11)
    memories = state(config)
    expected = memories.scratchpad.copy()
    run_load(memories, fields(Unit.LOAD, dram_addr=beat, dram_stride=4 * beat, rows=rows, row_bytes=row_bytes, addr=2 * beat,
                              stride=2 * beat, transpose=transpose, unpack=1))
    for line in range(2 * row_bytes if transpose else rows):
        expected[2 * beat * (1 + line):][:beat if transpose else 2 * beat] = 0
    for i in range(rows):
        for j in range(2 * row_bytes):
            byte = int(memories.memory[beat + i * 4 * beat + j // 2])
            expected[2 * beat * (1 + (j if transpose else i)) + (i if transpose else j)] = byte >> 4 if j % 2 else byte & 15
    np.testing.assert_array_equal(memories.scratchpad, expected)


def test_store_writes_only_the_bytes_of_a_row():
    config = CONFIGS["systolic-4x4"]
    memories = state(config)
    before = memories.memory.copy()
    run_store(memories, fields(Unit.STORE, dram_addr=64, dram_stride=48, rows=3, row_bytes=19, addr=32, stride=64))
    for i in range(3):
        before[64 + 48 * i:64 + 48 * i + 19] = memories.scratchpad[32 + 64 * i:32 + 64 * i + 19]
    np.testing.assert_array_equal(memories.memory, before)
    assert memories.counters["bytes_written"] == 57


@pytest.mark.parametrize(("unit", "run", "values", "cause", "addr"), [
    (Unit.LOAD, run_load, {"rows": 1, "row_bytes": 16, "dram_addr": 1 << 20}, ErrorCause.BUS_READ, 1 << 20),
    (Unit.LOAD, run_load, {"rows": 2, "row_bytes": 16, "dram_stride": (1 << 32) - 16}, ErrorCause.BUS_READ, 0xFFFF_FFF0),
    (Unit.LOAD, run_load, {"rows": 3, "row_bytes": 16, "dram_stride": 1 << 31}, ErrorCause.BUS_READ, 1 << 31),
    (Unit.LOAD, run_load, {"rows": 1, "row_bytes": 17, "addr": 32752}, ErrorCause.SCRATCHPAD_RANGE, 32768),
    (Unit.LOAD, run_load, {"rows": 17, "row_bytes": 1, "addr": 32752, "transpose": 1}, ErrorCause.SCRATCHPAD_RANGE, 32768),
    (Unit.LOAD, run_load, {"rows": 1, "row_bytes": 9, "addr": 32752, "unpack": 1}, ErrorCause.SCRATCHPAD_RANGE, 32768),
    (Unit.LOAD, run_load, {"rows": 1, "row_bytes": 1, "addr": 32752, "stride": 32, "transpose": 1, "unpack": 1},
     ErrorCause.SCRATCHPAD_RANGE, 32784),
    (Unit.STORE, run_store, {"rows": 1, "row_bytes": 16, "dram_addr": 1 << 14}, ErrorCause.BUS_WRITE, 1 << 14),
    (Unit.STORE, run_store, {"rows": 2, "row_bytes": 1, "stride": 32768}, ErrorCause.SCRATCHPAD_RANGE, 32768),
    (Unit.STORE, run_store, {"rows": 1, "row_bytes": 1, "stride": 8}, ErrorCause.MISALIGNED, 8),
    (Unit.MATRIX, run_matrix, {"m": 1, "n": 5, "k": 1, "weight_stride": 2}, ErrorCause.MISALIGNED, 2),
    (Unit.MATRIX, run_matrix, {"m": 3, "n": 4, "k": 4, "acc_addr": 254}, ErrorCause.ACCUMULATOR_RANGE, 256),
    (Unit.VECTOR, run_vector, {"m": 1, "n": 1, "source": 1, "output": 1}, ErrorCause.UNSUPPORTED, 1),
    (Unit.VECTOR, run_vector, {"m": 1, "n": 1, "output": 1, "b_en": 1, "b_addr": 8}, ErrorCause.MISALIGNED, 8),
])
def test_refusals(unit, run, values, cause, addr):
    with pytest.raises(Refusal) as refusal:
        run(state(CONFIGS["systolic-4x4"]), fields(unit, **values))
    assert (refusal.value.cause, refusal.value.addr) == (cause, addr)


def test_a_dataflow_that_the_config_has_not():
    with pytest.raises(Refusal) as refusal:
        run_matrix(state(CONFIGS["ws-only"]), fields(Unit.MATRIX, m=1, n=1, k=1, dataflow=1))
    assert refusal.value.cause == ErrorCause.UNSUPPORTED


# Programs -----------------------------------------------------------------------------------------------------


def small_program(text: str, **arguments: int) -> Program:
    """Return an assembled program for the smallest preset."""
    return Program(name="small", config_digest=CONFIGS["systolic-4x4"].digest(), code=assemble(text), code_addr=0,
                   regions=(Region(name="out", addr=4096, size=256, role="output"),), arguments=arguments,
                   kernels=((0, "head"), (3, "tail")))


def run(program: Program, args=None):
    """Run on a fresh golden session; return it and the result."""
    session = GoldenDevice(CONFIGS["systolic-4x4"]).open(1 << 14)
    return session, session.run(program, args)


@pytest.mark.parametrize("name", SQUARE)
def test_faulty_programs_stop_where_they_must(name):
    config = CONFIGS[name]
    for faulty in faulty_programs(config):
        with pytest.raises(DeviceError) as error:
            GoldenDevice(config).open(faulty.program.memory_bytes).run(faulty.program)
        assert (error.value.cause, error.value.pc) == (faulty.cause, faulty.pc)
        assert error.value.kernel == faulty.program.kernel_at(faulty.pc)


@pytest.mark.parametrize("name", SQUARE)
def test_random_programs_run(name):
    config = CONFIGS[name]
    for seed in range(2):
        program = random_program(config, seed).program
        session = GoldenDevice(config).open(program.memory_bytes)
        result = session.run(program)
        assert result.counters["instructions"] > 0
        assert {event.unit for event in session.trace} == set(Unit)
        again = GoldenDevice(config).open(program.memory_bytes).run(program)
        np.testing.assert_array_equal(result.outputs["output"], again.outputs["output"])


def test_arithmetic_loops_and_arguments():
    """Every ALU operation, a loop that is skipped, nested loops, r0: read back as the row bytes and addresses of stores."""
    session, result = run(small_program("""
        add r1, r16, 3
        sub r2, r1, r16 + 1     ; 2
        shl r3, r2, 5           ; 64
        shr r4, r3, r2 + 1      ; 8
        min r5, r4, r3          ; 8
        max r6, r5, 20          ; 20
        and r7, r6, 6           ; 4
        xor r8, r7, 1           ; 5
        set r0, 77
        loop 0
          set r8, 999
        end
        loop r2
          loop 3
            add r8, r8, r0 + 1
          end
        end
        set store.rows, 1
        set store.row_bytes, r8
        set store.dram_addr, 4096
        store
        halt
    """, x=0), {"x": 1})
    assert session.trace[0].fields["row_bytes"] == 11
    assert result.counters == {"instructions": 32, "macs": 0, "bytes_written": 11, "saturations": 0}


def test_session_keeps_memories_between_runs():
    load = small_program("set load.rows, 1\nset load.row_bytes, 16\nset load.dram_addr, 8192\nload\nhalt")
    store = small_program("set store.rows, 1\nset store.row_bytes, 16\nset store.dram_addr, 4096\nstore\nhalt")
    session = GoldenDevice(CONFIGS["systolic-4x4"]).open(1 << 14)
    session.memory[8192:8208] = np.arange(16)
    session.run(load)
    result = session.run(store)
    np.testing.assert_array_equal(result.outputs["out"][:16], np.arange(16))
    session.close()
    assert len(session.memory) == 0


def test_row_scalars_do_not_outlive_a_program():
    """What a program has not written itself reads as NaN, so that one that relies on it is found out."""
    config = CONFIGS["systolic-8x8"]
    head = "set vector.m, 4\nset vector.n, 1\nset vector.scale, 0x3f800000\n"
    write = "set vector.source, 4\nset vector.a_stride, 4\nset vector.sum, 1\nvector signal 0\nwait 0\n"
    read = ("set vector.source, 3\nset vector.sum, 0\nset vector.output, 3\nset vector.addr, 64\nset vector.stride, 4\n"
            "vector signal 1\nwait 1\nset store.rows, 1\nset store.row_bytes, 16\n"
            "set store.addr, 64\nset store.dram_addr, 4096\nstore\nhalt")
    session = GoldenDevice(config).open(1 << 14)
    for text, expected in ((write + read, 0), (read, 0x7FC0_0000)):
        program = Program(name="scalars", config_digest=config.digest(), code=assemble(head + text), code_addr=0,
                          regions=(Region(name="out", addr=4096, size=16, role="output"),))
        assert session.run(program).outputs["out"].view(np.uint32).tolist() == [expected] * 4


def test_programs_that_share_memory_are_placed_again():
    first = small_program("set store.rows, 1\nset store.row_bytes, 1\nset store.dram_addr, 4096\nstore\nhalt")
    second = small_program("halt")
    assert first.overlaps(second)
    session = GoldenDevice(CONFIGS["systolic-4x4"]).open(1 << 14)
    for program, count in ((first, 5), (second, 1), (first, 5), (first, 5)):
        assert session.run(program).counters["instructions"] == count
        assert session.memory[0] == program.code[0] & 0xFF
    apart = Program(name="apart", config_digest=first.config_digest, code=first.code, code_addr=8192, regions=())
    assert not first.overlaps(apart)
    assert not apart.overlaps(first)


@pytest.mark.parametrize(("change", "apart"), [
    ({}, True), ({"role": "output"}, True), ({"name": "y"}, False), ({"size": 128}, False), ({"addr": 4160}, True),
    ({"addr": 4032, "size": 128}, False),
    ({"role": "constant", "data": np.zeros(64, np.uint8)}, False), ({"name": "y", "addr": 8192}, True),
    ({"name": "y", "addr": 0}, False),
])
def test_programs_may_share_a_region(change, apart):
    """The same name, address and size in both, and no constant: neither has to be placed again after the other."""
    fields = {"name": "x", "addr": 4096, "size": 64, "role": "input"}
    first = Program(name="first", config_digest="", code=np.zeros(8, np.uint64), code_addr=0, regions=(Region(**fields),))
    second = Program(name="second", config_digest="", code=np.zeros(8, np.uint64), code_addr=6144,
                     regions=(Region(**{**fields, **change}),))
    assert first.overlaps(second) != apart
    assert second.overlaps(first) != apart


@pytest.mark.parametrize(("text", "message"), [
    ("wait 3\nhalt", ("head", "WAIT at instruction 0 waits for semaphore 3", "all zero")),
    ("signal 1\nsignal 1\nset r1, 1\nload wait 1, 2\nhalt", ("tail", "LOAD at instruction 3 waits for semaphore 2", "s1=1")),
])
def test_a_wait_that_nothing_ends(text, message):
    kernel, where, counts = message
    with pytest.raises(DeviceHang, match=rf"^kernel '{kernel}' of program 'small' hangs: {where}, which nothing before it "
                                         rf"signals \(semaphores: {counts}\)$"):
        run(small_program(text))


def test_semaphore_overflow():
    with pytest.raises(DeviceError, match=r"^kernel 'head' of program 'small' stopped: SEMAPHORE_OVERFLOW in the sequencer at "
                                          r"instruction 1 \(0x5\)$") as error:
        run(small_program("loop 256\nsignal 5\nend\nhalt"))
    assert error.value.addr == 5


@pytest.mark.parametrize(("text", "cause"), [
    (".word 0", ErrorCause.ILLEGAL_INSTRUCTION), ("set r1, 2", ErrorCause.PROGRAM_COUNTER),
    (".word 0x0000000000200102", ErrorCause.ILLEGAL_INSTRUCTION), (".word 0x0000000000200010", ErrorCause.ILLEGAL_INSTRUCTION),
    (".word 0x00000000000000ff", ErrorCause.ILLEGAL_INSTRUCTION), (".word 0x11", ErrorCause.LOOP_STACK),
    (".word 0x100000010\n" * 7, ErrorCause.LOOP_STACK),
])
def test_instructions_that_stop(text, cause):
    with pytest.raises(DeviceError) as error:
        run(small_program(text))
    assert error.value.cause == cause


def test_session_refuses_programs_that_do_not_fit():
    program = small_program("halt")
    with pytest.raises(ValueError, match=r"^program 'small' must fit into 64 bytes of memory, not need 4352$"):
        GoldenDevice(CONFIGS["systolic-4x4"]).open(64).run(program)
    with pytest.raises(ValueError, match=r"^program 'small' must be compiled for config"):
        GoldenDevice(CONFIGS["systolic-8x8"]).open(1 << 14).run(program)
    with pytest.raises(ValueError, match=r"^argument must be one of none, not 'x'$"):
        run(program, {"x": 1})
    with pytest.raises(ValueError, match=r"^memory_bytes must be between 1 and 2\*\*32, not 0$"):
        GoldenDevice(CONFIGS["systolic-4x4"]).open(0)


def test_events_tell_issue_cycles_and_lines():
    """A register used right after it is written takes a cycle more, an END that goes back too; none comes soon after its LOOP."""
    from sw.golden.sequencer import run_sequencer
    asm = Assembler()
    asm.set("r1", 1)
    asm.add("r2", "r1")
    asm.set("r3", 5)
    with asm.loop(2):
        asm.signal(0)
    asm.halt()
    events = list(run_sequencer(asm.words(), {}))
    assert [event.opcode.name for event in events] == ["SIGNAL", "SIGNAL", "HALT"]
    assert [event.issued for event in events] == [6, 10, 12]
    assert [event.executed for event in events] == [5, 7, 9]
    assert [event.lines for event in events] == [((0, 0),), (), ()]
