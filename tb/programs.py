"""Random command programs, legal by construction: what the system bench and the volume test run on golden model and RTL.

Two threads of commands own one half of the scratchpad and of the accumulator each. Inside a thread a baton (a semaphore)
passes from unit to unit, so its commands run in program order; between the threads nothing is ordered, so loads, matrix, vector
and store commands of the one overlap those of the other. Bodies are repeated by hardware loops, with addresses in registers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import DESCRIPTORS, Dataflow, ErrorCause, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource
from sw.assembler import Assembler
from sw.program import Program, Region
from tb.vector.commands import VectorSpace, initial_row_scalars, random_vector_command

__all__ = ["FaultyProgram", "RandomProgram", "faulty_programs", "random_program", "wipe_program"]

INPUT_BYTES = 1 << 16
PARAMETER_BYTES = 1 << 13
LARGEST_ROWS = 256          # row scalars of a thread
HOME = 4                    # a thread's own semaphore; 0–3 are the batons to its units
PER_THREAD = 8


@dataclass(kw_only=True)
class RandomProgram:
    """A program and what is interesting about it.

    Attributes
    ----------
    program : Program
    commands : list of (Unit, dict)
        The queued commands in program order with the fields as set in the first iteration of their loop.
    """

    program: Program
    commands: list[tuple[Unit, dict[str, int]]] = field(default_factory=list)


class _Thread:
    """One of the two owners of half of the memories."""

    def __init__(self, config: AcceleratorConfig, index: int, rng: np.random.Generator):
        self.index = index
        half = config.scratchpad_bytes // 2
        quarter = half // 4
        bases = [index * half + i * quarter for i in range(4)]
        rng.shuffle(bases)
        self.area_bytes = quarter
        self.activation, self.weight, self.parameter, self.output = bases
        self.acc_rows = config.accumulator_rows // 2
        self.acc = index * self.acc_rows
        self.rows = min(config.vector_rows // 2, LARGEST_ROWS)
        self.row = index * self.rows


class _Generator:
    def __init__(self, config: AcceleratorConfig, rng: np.random.Generator, longest: int):
        self.config, self.rng, self.longest = config, rng, longest
        self.threads = [_Thread(config, i, rng) for i in range(2)]
        self.input = 0
        self.parameters = INPUT_BYTES
        self.output = INPUT_BYTES + PARAMETER_BYTES
        self.output_end = self.output

    def _int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def _flag(self, probability: float = 0.5) -> int:
        return int(self.rng.random() < probability)

    def _place(self, base: int, room: int, size: int, step: int) -> int:
        """Return a multiple of `step` in [base, base + room) at which `size` bytes fit."""
        return base + step * self._int(0, (room - size) // step)

    def _spread(self, count: int, unit: int, step: int, room: int) -> int:
        """Return a stride, a multiple of `step` and at least `unit`, at which `count` pieces fit into `room`."""
        least = ceil_div(unit, step) * step
        most = max(least, (room - unit) // max(1, count - 1) // step * step)
        return step * self._int(least // step, min(most, least + 4 * step) // step)

    def load(self, thread: _Thread, parameters: bool = False) -> dict[str, int]:
        beat = self.config.beat_bytes
        if parameters:
            size = self._int(1, min(thread.area_bytes, PARAMETER_BYTES) // beat) * beat
            return {"dram_addr": self.parameters, "dram_stride": 0, "rows": 1, "row_bytes": size, "addr": thread.parameter,
                    "stride": 0, "transpose": 0, "unpack": 0}
        room, transpose = thread.area_bytes, self._flag(0.4)
        rows, unpack = self._int(1, self.longest), self._flag(0.3)
        columns = self._int(1, 3 * beat >> unpack) << unpack
        across, along = (columns, ceil_div(rows, beat) * beat) if transpose else (rows, ceil_div(columns, beat) * beat)
        pair = 1 + (transpose & unpack)                 # columns of a byte
        across = min(across, room // along // pair * pair)
        rows, columns = (rows, across) if transpose else (across, columns)
        row_bytes = columns >> unpack
        stride = self._spread(across, along, beat, room)
        least = ceil_div(row_bytes, beat)
        dram_stride = beat * self._int(least, max(least, min(8, INPUT_BYTES // (rows * beat))))
        size = (across - 1) * stride + along
        base = thread.activation if self._flag() else thread.weight
        dram = self._place(self.input, INPUT_BYTES, (rows - 1) * dram_stride + ceil_div(row_bytes, beat) * beat, beat)
        return {"dram_addr": dram, "dram_stride": dram_stride, "rows": rows, "row_bytes": row_bytes,
                "addr": self._place(base, room, size, beat), "stride": stride, "transpose": transpose,
                "unpack": unpack}

    def matrix(self, thread: _Thread) -> dict[str, int]:
        config = self.config
        dataflow = Dataflow[self.rng.choice(config.dataflows).upper()]
        m, n, k = (self._int(1, self.longest) for _ in range(3))
        n = min(n, thread.acc_rows // m * config.columns)
        steps, groups = (m, ceil_div(k, config.rows)) if dataflow == Dataflow.WS else (k, ceil_div(m, config.rows))
        activation = self._walk(thread.activation, thread.area_bytes, steps, groups, config.activation_slot_bytes)
        n_groups = ceil_div(n, config.columns)
        weight = self._walk(thread.weight, thread.area_bytes, k, n_groups, config.weight_slot_bytes)
        acc_tile_stride = self._int(m, max(m, thread.acc_rows // n_groups))
        acc_size = (n_groups - 1) * acc_tile_stride + m
        return {**{f"activation_{name}": value for name, value in activation.items()},
                **{f"weight_{name}": value for name, value in weight.items()},
                "acc_addr": self._place(thread.acc, thread.acc_rows, acc_size, 1), "acc_tile_stride": acc_tile_stride,
                "m": m, "n": n, "k": k, "dataflow": int(dataflow), "accumulate": self._flag(), "serialize": self._flag(0.2)}

    def _walk(self, base: int, room: int, steps: int, groups: int, slot: int) -> dict[str, int]:
        """Return address and strides of `steps` × `groups` slots inside an area."""
        stride = self._spread(steps, slot, slot, room - groups * slot)
        tile_stride = slot * self._int(1, max(1, min(4, (room - (steps - 1) * stride) // (slot * groups))))
        size = (steps - 1) * stride + (groups - 1) * tile_stride + slot
        return {"addr": self._place(base, room, size, slot), "stride": stride, "tile_stride": tile_stride}

    def space(self, thread: _Thread) -> VectorSpace:
        """Return what a thread's vector commands may use."""
        return VectorSpace(
            inputs=(thread.parameter, thread.activation, thread.weight), output=thread.output, area_bytes=thread.area_bytes,
            acc=thread.acc, acc_rows=thread.acc_rows, row=thread.row, rows=thread.rows, longest=self.longest)

    def store(self, thread: _Thread, count: int) -> tuple[dict[str, int], int]:
        """Return a store of its own piece of the output region, and the bytes from one iteration's piece to the next."""
        beat = self.config.beat_bytes
        row_bytes = self._int(1, 3 * beat)
        along = ceil_div(row_bytes, beat) * beat
        rows = self._int(1, min(self.longest, thread.area_bytes // along))
        stride = self._spread(rows, along, beat, thread.area_bytes)
        dram_stride = along + beat * self._int(0, 2)
        piece = rows * dram_stride
        fields = {"dram_addr": self.output_end, "dram_stride": dram_stride, "rows": rows, "row_bytes": row_bytes,
                  "addr": self._place(thread.output, thread.area_bytes, (rows - 1) * stride + along, beat), "stride": stride}
        self.output_end += piece * count
        return fields, piece


def random_program(config: AcceleratorConfig, seed: int, rounds: int = 2, longest: int | None = None) -> RandomProgram:
    """Return a random legal program.

    Parameters
    ----------
    config : AcceleratorConfig
        Arrays whose rows and columns are powers of two; at least 8 scratchpad banks are not needed but make it faster.
    seed : int
        Everything follows from it.
    rounds : int
        Bodies, each a hardware loop of one to three iterations over both threads.
    longest : int
        Largest m, n, k and row count; default three times the longer side of the array, or what the accumulator holds.
    """
    rng = np.random.default_rng(seed)
    generator = _Generator(config, rng, longest or min(3 * max(config.rows, config.columns), config.accumulator_rows // 6))
    asm = Assembler()
    commands: list[tuple[Unit, dict[str, int]]] = []
    for thread in generator.threads:
        asm.signal(thread.index * PER_THREAD + HOME)
    for _ in range(rounds):
        count = int(rng.integers(1, 4))
        chains = [_chain(generator, thread, count, asm) for thread in generator.threads]
        with asm.loop(count):
            _interleave(rng, asm, chains, commands)
            for thread in generator.threads:
                asm.add(f"r{2 + 2 * thread.index}", f"r{2 + 2 * thread.index}", f"r{3 + 2 * thread.index}")
    asm.halt()
    return RandomProgram(program=_program(config, generator, asm, rng, seed), commands=commands)


def _chain(generator: _Generator, thread: _Thread, count: int, asm: Assembler) -> list[tuple[Unit, dict[str, int]]]:
    """Return one thread's commands of a body; registers 2+2i and 3+2i get the store's address and step."""
    rng = generator.rng
    chain = [(Unit.LOAD, generator.load(thread, parameters=True))]
    chain += [(Unit.LOAD, generator.load(thread)) for _ in range(rng.integers(1, 4))]
    for _ in range(rng.integers(1, 4)):
        chain.append((Unit.MATRIX, generator.matrix(thread)))
        if rng.random() < 0.3:
            chain.append((Unit.LOAD, generator.load(thread)))
    space = generator.space(thread)
    if generator.config.vector == "transformer":
        chain.append((Unit.VECTOR, initial_row_scalars(generator.config, space)))
        chain += [(Unit.VECTOR, random_vector_command(generator.config, rng, space)) for _ in range(2)]
    chain += [(Unit.VECTOR, random_vector_command(generator.config, rng, space)) for _ in range(rng.integers(1, 3))]
    fields, step = generator.store(thread, count)
    asm.set(f"r{2 + 2 * thread.index}", fields["dram_addr"])
    asm.set(f"r{3 + 2 * thread.index}", step)
    return [*chain, (Unit.STORE, fields)]


def _interleave(rng: np.random.Generator, asm: Assembler, chains: list[list[tuple[Unit, dict[str, int]]]],
                commands: list[tuple[Unit, dict[str, int]]]) -> None:
    """Queue the chains' commands in a random interleaving, each chain in its own order."""
    left = [list(chain) for chain in chains]
    while any(left):
        index = int(rng.choice([i for i, chain in enumerate(left) if chain]))
        position = len(chains[index]) - len(left[index])
        unit, fields = left[index].pop(0)
        base = index * PER_THREAD
        previous = chains[index][position - 1][0] if position else None
        following = left[index][0][0] if left[index] else None
        wait = [base + HOME] if previous is None else [base + unit] if previous != unit else []
        signal = [base + HOME] if following is None else [base + following] if following != unit else []
        for field_ in DESCRIPTORS[unit]:
            name = f"{unit.name.lower()}.{field_.name}"
            if unit == Unit.STORE and field_.name == "dram_addr":
                asm.set(name, f"r{2 + 2 * index}")
            else:
                asm.set(name, fields.get(field_.name, 0))
        asm.go(unit, wait=wait, signal=signal)
        commands.append((unit, fields))


def _program(config: AcceleratorConfig, generator: _Generator, asm: Assembler, rng: np.random.Generator, seed: int) -> Program:
    data = rng.integers(0, 256, INPUT_BYTES, dtype=np.uint8)
    words = PARAMETER_BYTES // 4
    scales = (rng.uniform(0.5, 1, words) * 2.0 ** rng.integers(-14, -3, words)).astype(np.float32)
    output_bytes = generator.output_end - generator.output
    return Program(
        name=f"random-{seed}", config_digest=config.digest(), code=asm.words(parity=config.command_parity),
        parity=config.command_parity, code_addr=ceil_div(generator.output_end, 64) * 64,
        regions=(
            Region(name="input", addr=generator.input, size=INPUT_BYTES, role="constant", data=data),
            Region(name="parameters", addr=generator.parameters, size=PARAMETER_BYTES, role="constant",
                   data=scales.view(np.uint8)),
            Region(name="output", addr=generator.output, size=output_bytes, role="output"),
        ),
        kernels=((0, "random"),))


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultyProgram:
    """A program with one fault, and what the accelerator must say of it."""

    program: Program
    cause: ErrorCause
    pc: int


def faulty_programs(config: AcceleratorConfig) -> list[FaultyProgram]:
    """Return one program for each way in which a command or the instruction stream can be wrong.

    Each queues a correct load first, then the faulty one, then a store that must never start (it waits for the faulty command).
    """
    beat, fields = config.beat_bytes, _harmless(config)
    spad = config.scratchpad_bytes
    command_faults = [
        (Unit.LOAD, {"rows": 0}, ErrorCause.BAD_SIZE), (Unit.LOAD, {"row_bytes": 0}, ErrorCause.BAD_SIZE),
        (Unit.LOAD, {"addr": 1}, ErrorCause.MISALIGNED), (Unit.LOAD, {"dram_addr": beat // 2}, ErrorCause.MISALIGNED),
        (Unit.LOAD, {"addr": spad}, ErrorCause.SCRATCHPAD_RANGE),
        (Unit.LOAD, {"rows": 2, "stride": spad}, ErrorCause.SCRATCHPAD_RANGE),
        (Unit.MATRIX, {"m": 0}, ErrorCause.BAD_SIZE), (Unit.MATRIX, {"n": 0}, ErrorCause.BAD_SIZE),
        (Unit.MATRIX, {"k": 0}, ErrorCause.BAD_SIZE),
        (Unit.MATRIX, {"activation_addr": spad}, ErrorCause.SCRATCHPAD_RANGE),
        (Unit.MATRIX, {"weight_addr": spad}, ErrorCause.SCRATCHPAD_RANGE),
        (Unit.MATRIX, {"acc_addr": config.accumulator_rows}, ErrorCause.ACCUMULATOR_RANGE),
        (Unit.VECTOR, {"m": 0}, ErrorCause.BAD_SIZE), (Unit.VECTOR, {"n": 0}, ErrorCause.BAD_SIZE),
        (Unit.VECTOR, {"source": 7}, ErrorCause.UNSUPPORTED),
        (Unit.VECTOR, {"c_use": StreamUse.BIAS, "c_addr": 1}, ErrorCause.MISALIGNED),
        (Unit.VECTOR, {"addr": spad}, ErrorCause.SCRATCHPAD_RANGE),
        (Unit.VECTOR, {"acc_addr": config.accumulator_rows}, ErrorCause.ACCUMULATOR_RANGE),
        (Unit.STORE, {"rows": 0}, ErrorCause.BAD_SIZE), (Unit.STORE, {"addr": beat // 2}, ErrorCause.MISALIGNED),
        (Unit.STORE, {"addr": spad}, ErrorCause.SCRATCHPAD_RANGE),
    ]
    if config.vector == "transformer":
        beyond = config.vector_rows - 1
        command_faults += [
            (Unit.VECTOR, {"m": 2, "row0_en": 1, "row0_addr": beyond}, ErrorCause.ROW_SCALAR_RANGE),
            (Unit.VECTOR, {"m": 2, "sum": 1, "sum_addr": beyond}, ErrorCause.ROW_SCALAR_RANGE),
            (Unit.VECTOR, {"source": VectorSource.FLOAT32, "a_addr": spad}, ErrorCause.SCRATCHPAD_RANGE),
            (Unit.VECTOR, {"function": VectorFunction.RSQRT}, ErrorCause.UNSUPPORTED),
        ]
    else:
        command_faults.append((Unit.VECTOR, {"source": VectorSource.FLOAT32}, ErrorCause.UNSUPPORTED))
    programs = [_faulty(config, cause, lambda asm, u=unit, c=changes: _queue(asm, u, {**fields[u], **c}))
                for unit, changes, cause in command_faults]

    def run_past_the_end(asm: Assembler) -> None:
        asm.open_loop(0, skip=1000)
        asm.close_loop()

    operands = [0x02 | 32 << 16, 0x10 | 32 << 16]
    if not config.command_parity:           # whose check bits leave no room for such a number
        operands.append(0x09 | 255 << 24)
    programs += [
        _faulty(config, ErrorCause.ILLEGAL_INSTRUCTION, lambda asm: asm.word(0)),
        _faulty(config, ErrorCause.ILLEGAL_INSTRUCTION, lambda asm: asm.word(0x02 | 250 << 8)),
        _faulty(config, ErrorCause.LOOP_STACK, lambda asm: asm.word(0x11)),
        _faulty(config, ErrorCause.PROGRAM_COUNTER, run_past_the_end),
        *(_faulty(config, ErrorCause.ILLEGAL_INSTRUCTION, lambda asm, w=word: asm.word(w))
          for word in operands),
        *(_faulty(config, ErrorCause.FIELD_OVERFLOW, lambda asm, n=name, v=value: asm.set(n, v))
          for name, value in (("load.addr", 1 << 24), ("matrix.k", 1 << 16), ("matrix.dataflow", 2), ("vector.source", 8),
                              ("store.stride", -beat))),
    ]
    return programs


def wipe_program(config: AcceleratorConfig) -> Program:
    """Return a program that gives every byte of the scratchpad and every accumulator row a known value, and stores a piece.

    After a run that stopped with an error nobody knows how far its commands had come; this makes the local memories known again.
    """
    asm = Assembler()
    fields = _harmless(config)
    chunk = min(config.scratchpad_bytes, 1 << 12)
    asm.set("r1", 0)
    for name, value in {**fields[Unit.LOAD], "row_bytes": chunk}.items():
        asm.set(f"load.{name}", value)
    with asm.loop(config.scratchpad_bytes // chunk):
        asm.set("load.addr", "r1")
        asm.and_("load.dram_addr", "r1", imm=INPUT_BYTES - 1)
        asm.go(Unit.LOAD)
        asm.add("r1", "r1", imm=chunk)
    asm.fence()
    _queue(asm, Unit.MATRIX, {**fields[Unit.MATRIX], "m": config.accumulator_rows, "n": config.columns, "k": config.rows})
    _queue(asm, Unit.STORE, fields[Unit.STORE])
    asm.halt()
    return _fixed_program(config, "wipe", asm)


def _harmless(config: AcceleratorConfig) -> dict[Unit, dict[str, int]]:
    """Return, for each unit, fields of a small legal command."""
    beat = config.beat_bytes
    fields = {unit: dict.fromkeys((f.name for f in DESCRIPTORS[unit]), 0) for unit in Unit}
    fields[Unit.LOAD] |= {"rows": 1, "row_bytes": beat}
    fields[Unit.MATRIX] |= {"m": 1, "n": 1, "k": 1, "dataflow": int(Dataflow[config.dataflows[0].upper()])}
    fields[Unit.VECTOR] |= {"m": 1, "n": 1, "scale": 0x3F80_0000, "output": VectorOutput.INT8}
    fields[Unit.STORE] |= {"rows": 1, "row_bytes": beat, "dram_addr": INPUT_BYTES}
    return fields


def _queue(asm: Assembler, unit: Unit, fields: dict[str, int], wait: tuple[int, ...] = ()) -> None:
    for name, value in fields.items():
        asm.set(f"{unit.name.lower()}.{name}", value)
    asm.go(unit, wait=wait, signal=(0,))


def _faulty(config: AcceleratorConfig, cause: ErrorCause, fault: Callable[[Assembler], None]) -> FaultyProgram:
    asm = Assembler()
    fields = _harmless(config)
    _queue(asm, Unit.LOAD, fields[Unit.LOAD])
    asm.wait(0)
    fault(asm)
    pc = len(asm) - 1
    _queue(asm, Unit.STORE, fields[Unit.STORE], wait=(0,))
    asm.halt()
    program = _fixed_program(config, f"faulty-{cause.name.lower()}", asm)
    if cause == ErrorCause.PROGRAM_COUNTER:
        pc += 1000
    return FaultyProgram(program=program, cause=cause, pc=pc)


def _fixed_program(config: AcceleratorConfig, name: str, asm: Assembler) -> Program:
    data = np.arange(INPUT_BYTES, dtype=np.uint32).astype(np.uint8)
    return Program(
        name=name, config_digest=config.digest(), code=asm.words(parity=config.command_parity),
        parity=config.command_parity, code_addr=2 * INPUT_BYTES,
        regions=(Region(name="input", addr=0, size=INPUT_BYTES, role="constant", data=data),
                 Region(name="output", addr=INPUT_BYTES, size=INPUT_BYTES, role="output")),
        kernels=((0, name),))
