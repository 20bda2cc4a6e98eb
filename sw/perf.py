"""Cycles of a Program without RTL: its commands through a model of sequencer, queues, semaphores, DMA and engines.

Commands are taken in program order, each unit keeping its own clock. What a unit does within a command is closed-form:
`sw.engines` and `hw.timing` say how long, this file says when it can start. Goal: within 2 % of the RTL.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import combinations

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hybrid import MODE_STREAM, STREAM_BEATS
from hw.isa import ANGLE_RECORD_BYTES, INSTRUCTION_BYTES, SEMAPHORES, Opcode, StreamUse, Unit, VectorSource
from hw.timing import (
    FETCH_LINE_BYTES,
    IN_FLIGHT,
    LOAD_LATENCY,
    START_CYCLES,
    STORE_LATENCY,
    VECTOR_STAGES,
    fetch_ahead,
    vector_cycles,
)
from sw.engines import engine_runtime
from sw.golden.sequencer import Event, mask_bits, run_sequencer
from sw.program import Program

__all__ = ["MemoryModel", "Prediction", "predict", "predict_code", "vector_command_cycles"]

DOORBELL_CYCLES = 2         # from the doorbell to the first look-up, besides the sequencer's start
FETCH_START = 4             # from the doorbell to the request of the first line
FETCH_LATENCY = 4           # of a line, besides memory: request, address, last beat, hit
OFFER = 1                   # from a command's arrival at the head of its queue, or its semaphores' grant, to its offer
SIGNAL = 1                  # from `done` to the cycle in which its semaphores can be granted
BURST_HOLD = 2              # cycles that a read burst holds its place besides latency and beats
HALT_CYCLES = 3             # from the last `done` to the stop
_FROM_SCRATCHPAD = (VectorSource.FLOAT32, VectorSource.INT8, VectorSource.UINT4)


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryModel:
    """The memory behind the bus: cycles from address to first beat (or last beat to response), and beats per cycle."""

    latency: int = 32
    bandwidth: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a run will take.

    Attributes
    ----------
    cycles : int
        From the doorbell to the stop.
    macs : int
    busy : dict of str to int
        Cycles in which each unit has a command.
    kernels : dict of str to int
        Cycles that the sequencer spends in each kernel of the program, waits included; their sum is `cycles`. Where fences divide
        the kernels, this is how long each takes.
    """

    cycles: int
    macs: int
    busy: dict[str, int] = field(default_factory=dict)
    kernels: dict[str, int] = field(default_factory=dict)


def vector_command_cycles(config: AcceleratorConfig, fields: Mapping[str, int]) -> int:
    """Return the cycles of a vector command by itself: `hw.timing.vector_cycles`, and turns of the streams that share a bank.

    Each stream is read about when its slice comes to the step that needs it, so C, say, after A by as many steps as lie between.
    """
    alone, lanes = vector_cycles(config, fields), config.vector_lanes
    stages = VECTOR_STAGES[config.vector]
    of_c: dict[int, int] = {StreamUse.BIAS: stages.bias, StreamUse.POST: stages.post}
    middle = stages.add if fields["middle"] in (1, 3) else stages.maximum
    steps = {"a": 0, "b": stages.scale, "c": of_c.get(fields["c_use"], middle)}
    used = [name for name, reads in (("a", fields["source"] in _FROM_SCRATCHPAD), ("b", fields["b_en"]),
                                     ("c", fields["c_use"] != StreamUse.NONE)) if reads]
    rows = np.arange(fields["m"], dtype=np.int64)
    banks = {name: (fields[f"{name}_addr"] + rows * fields[f"{name}_stride"]) // config.scratchpad_bank_bytes for name in used}
    if all(not np.intersect1d(banks[one], banks[other]).size for one, other in combinations(used, 2)):
        return alone
    slices = ceil_div(fields["n"], lanes)
    read = np.full((len(used), fields["m"] * slices + max(steps.values())), -1)         # stream × step → bank
    for row, name in zip(read, used, strict=True):
        row[steps[name]:steps[name] + fields["m"] * slices] = np.repeat(banks[name], slices)
    turns = np.max([np.sum((read == row) & (row >= 0), axis=0) for row in read], axis=0)
    return alone + int(np.maximum(turns - 1, 0).sum())


class _Fetch:
    """The instruction cache: when the sequencer can execute the first instruction of each line."""

    def __init__(self, config: AcceleratorConfig, memory: MemoryModel, model: "_Model", lines: int):
        self.model = model
        self.lines, self.last = config.command_lines, lines - 1
        self.beats = ceil_div(FETCH_LINE_BYTES, config.beat_bytes) / memory.bandwidth
        self.delay = memory.latency + FETCH_LATENCY
        self.ahead = fetch_ahead(config.command_lines)
        self.there: dict[int, tuple[int, float]] = {}       # cache index → line, cycle from which it can be read
        self.bus = 0.0

    def enter(self, line: int, now: float) -> float:
        """Return when `line` can be read, looked for at `now`; ask for it and for those after it."""
        ready = self._request(line, now)
        for index in range(1, self.ahead + 1):
            if line + index <= self.last:
                self._request(line + index, now + 2 * index)
        return max(now, ready)

    def _request(self, line: int, now: float) -> float:
        slot = line % self.lines
        known = self.there.get(slot)
        if known is not None and known[0] == line:
            return known[1]
        self.bus = max(now + self.delay, self.bus, self.model.in_flight(now)) + self.beats
        if self.model.read_bus + self.beats > self.bus:     # loads wait for the line's beats
            self.model.read_bus += self.beats
        self.there[slot] = line, self.bus
        return self.bus


class _Queue:
    """One unit's queue: when each command is pushed, taken and done."""

    def __init__(self, depth: int):
        self.depth = depth
        self.taken: list[float] = []
        self.done: list[float] = []
        self.busy = 0.0

    def space(self) -> float:
        """Return the first cycle in which another command can be pushed."""
        return self.taken[-self.depth] + 1 if len(self.taken) >= self.depth else 0.0

    def head(self, pushed: float) -> float:
        """Return when a command pushed at `pushed` is at the head and one of the unit's places is free."""
        ready = pushed + OFFER
        if self.taken:
            ready = max(ready, self.taken[-1] + 1)
        return ready

    def place(self) -> float:
        """Return when the unit can hold one command more."""
        return self.done[-IN_FLIGHT] + 1 if len(self.done) >= IN_FLIGHT else 0.0

    def finish(self, taken: float, done: float) -> None:
        """Note a command."""
        start = max(taken, self.done[-1]) if self.done else taken
        done = max(done, self.done[-1] + 1) if self.done else done
        self.taken.append(taken)
        self.done.append(done)
        self.busy += max(0.0, done - start)


class _Model:
    """All units' clocks while the commands of a program go by."""

    def __init__(self, config: AcceleratorConfig, memory: MemoryModel):
        self.config, self.memory = config, memory
        self.queues = {unit: _Queue(config.queue_depth) for unit in Unit}
        self.engine = engine_runtime(config).timing(config)
        self.next = dict.fromkeys(Unit, 0.0)    # when each unit can take another command
        self.semaphores: list[list[float]] = [[] for _ in range(SEMAPHORES)]
        self.streams: deque[float] = deque()    # when weights that go past the scratchpad are there, if the engine takes them
        self.places = 0.0                       # cycles that the bursts in flight cover
        self.reading: deque[tuple[float, float]] = deque(maxlen=2 * IN_FLIGHT)      # from when to when loads have asked for beats
        self.read_bus = 0.0         # end of the last read beat
        self.turned = 0.0           # end of the last transposed beat; plain ones come after it
        self.write_bus = 0.0
        self.macs = 0

    # Units: from the cycle in which a command is taken to the one of `done` ------------------------------------------

    def load(self, at: float, fields: Mapping[str, int]) -> float:
        """One beat a cycle into the scratchpad, less where short bursts do not cover the latency."""
        if fields["stream"] and (fields["transpose"] or fields["unpack"]):
            return self._angles(at, fields)
        config, memory, rows, row_bytes = self.config, self.memory, fields["rows"], fields["row_bytes"]
        beat, written = config.beat_bytes, 1 + fields["unpack"]     # beats that one becomes
        beats = ceil_div(row_bytes, beat)
        longest = 1 if fields["transpose"] else min(beats, config.burst_beats)
        bursts = rows * (beats if fields["transpose"] else ceil_div(beats, config.burst_beats))
        held = (memory.latency + BURST_HOLD + longest * written) / config.outstanding_reads
        duration = max(rows * beats / memory.bandwidth, bursts * held, bursts)
        first = at + LOAD_LATENCY - 2 + memory.latency
        if fields["transpose"]:
            # A block's columns of bytes leave while the next block enters; unpacked ones take two cycles each.
            twice = row_bytes if fields["unpack"] else 0
            leave = beat + ((row_bytes - 1) % beat + 1 if fields["unpack"] else 0)
            steps = beat + ceil_div(rows, beat) * (beats * beat + twice) - leave
            self.read_bus = max(self.read_bus, first, self.turned - beat) + max(duration, steps)
            self.turned = done = self.read_bus + leave
        else:
            steps = rows * ceil_div(written * row_bytes, beat)
            self.read_bus = done = max(self.read_bus, first, self.turned) + max(duration, steps)
        # The next command is taken when the last burst of this one has its place.
        self.places = config.outstanding_reads * max(longest * written / memory.bandwidth, held)
        self.next[Unit.LOAD] = max(at + bursts, self.read_bus - self.places)
        self.reading.append((at, self.read_bus))
        if fields["stream"]:
            self.streams.append(self.read_bus - rows * beats)
        return done + 2

    def in_flight(self, now: float) -> float:
        """Return when the last of the beats comes that have been asked for at `now`: nothing overtakes them."""
        busy = [end for start, end in self.reading if start <= now < end]
        return min(max(busy), now + self.places) if busy else now

    def _angles(self, at: float, fields: Mapping[str, int]) -> float:
        """Records, a pair in two cycles; angles, a beat a cycle without DRAM, as if they were made already."""
        config, records = self.config, bool(fields["transpose"])
        first = at + LOAD_LATENCY - 2 + (self.memory.latency if records else 0)
        beats = fields["rows"] * ceil_div(fields["row_bytes"], config.beat_bytes)
        steps = 2 * fields["row_bytes"] // ANGLE_RECORD_BYTES if records else beats
        self.read_bus = max(self.read_bus, first, self.turned) + steps
        self.next[Unit.LOAD] = max(at + 1, self.read_bus - config.outstanding_reads)
        return self.read_bus + 2

    def store(self, at: float, fields: Mapping[str, int]) -> float:
        """One beat a cycle; the response comes a latency after the last."""
        beats = fields["rows"] * ceil_div(fields["row_bytes"], self.config.beat_bytes)
        self.write_bus = max(self.write_bus, at + STORE_LATENCY - 1) + beats / self.memory.bandwidth
        return self.write_bus + self.memory.latency

    def vector(self, at: float, fields: Mapping[str, int]) -> float:
        """One command after the other."""
        cycles = vector_command_cycles(self.config, fields)
        self.next[Unit.VECTOR] = at + cycles - 1
        return at + cycles - 1

    def matrix(self, at: float, fields: Mapping[str, int]) -> float:
        """Back to back, as the engine's own model says."""
        self.macs += fields["m"] * fields["n"] * fields["k"]
        streams = bool(self.config.weight_stream and fields["mode"] & MODE_STREAM and self.streams)
        done = self.engine.command(max(at, self.streams.popleft()) if streams else at, fields)
        self.next[Unit.MATRIX] = self.engine.next
        if streams:                         # what the engine has no room for waits on the bus
            self.read_bus = max(self.read_bus, done - STREAM_BEATS)
            self.reading[-1] = self.reading[-1][0], self.read_bus
            self.next[Unit.LOAD] = max(self.next[Unit.LOAD], self.read_bus - self.places)
        return done

    # Commands ---------------------------------------------------------------------------------------------------

    def granted(self, mask: int, at: float) -> float:
        """Return when every semaphore of a mask can be taken, from `at` on; take them."""
        for index in mask_bits(mask):
            at = max(at, heappop(self.semaphores[index]) if self.semaphores[index] else at)
        return at

    def signal(self, mask: int, at: float) -> None:
        """Add one to each semaphore of a mask at cycle `at`."""
        for index in mask_bits(mask):
            heappush(self.semaphores[index], at)

    def command(self, event: Event, pushed: float) -> None:
        """Run one command that its queue takes at `pushed`."""
        assert event.unit is not None
        queue = self.queues[event.unit]
        offered = queue.head(pushed)
        if event.wait:
            offered = self.granted(event.wait, offered) + OFFER
        taken = max(offered, queue.place(), self.next[event.unit])
        run = {Unit.LOAD: self.load, Unit.MATRIX: self.matrix, Unit.VECTOR: self.vector, Unit.STORE: self.store}[event.unit]
        queue.finish(taken, run(taken, event.fields))
        self.signal(event.signal, queue.done[-1] + SIGNAL)


def predict(config: AcceleratorConfig, program: Program, args: Mapping[str, int] | None = None,
            memory: MemoryModel | None = None) -> Prediction:
    """Return the cycles that a program takes on the RTL.

    Parameters
    ----------
    config : AcceleratorConfig
    program : Program
    args : dict of str to int or None
        Arguments; those that are missing count as 0 (addresses do not matter).
    memory : MemoryModel or None
        By default 32 cycles of latency, one beat a cycle.
    """
    values = {index: (args or {}).get(name, 0) for name, index in program.arguments.items()}
    return predict_code(config, program.code, values, memory, program.kernel_at)


def predict_code(config: AcceleratorConfig, code: npt.NDArray[np.uint64], arguments: Mapping[int, int],
                 memory: MemoryModel | None = None, kernel_at: Callable[[int], str] = lambda pc: "program") -> Prediction:
    """Return the cycles of instructions with these arguments (CSR index → value), of which `kernel_at` names the kernel."""
    memory = memory or MemoryModel()
    model = _Model(config, memory)
    fetch = _Fetch(config, memory, model, ceil_div(len(code) * INSTRUCTION_BYTES, FETCH_LINE_BYTES))
    now = float(DOORBELL_CYCLES + START_CYCLES)
    issued, before = 0, 0.0
    spent: dict[str, float] = {}
    fetch.enter(0, FETCH_START)
    for event in run_sequencer(code, arguments, parity=config.command_parity):
        for line, at in event.lines:
            now = fetch.enter(line, now + at - issued)
            issued = at
        now += event.issued - issued
        issued = event.issued
        if event.unit is not None:
            now = max(now, model.queues[event.unit].space())
            model.command(event, now)
        elif event.opcode == Opcode.SIGNAL:
            model.signal(event.signal, now + SIGNAL)
        elif event.opcode == Opcode.WAIT:
            now = model.granted(event.wait, now)
        else:
            now = max([now, *(queue.done[-1] for queue in model.queues.values() if queue.done)]) + HALT_CYCLES
        kernel = kernel_at(event.pc)
        spent[kernel] = spent.get(kernel, 0.0) + now - before
        before = now
    busy = {unit.name.lower(): round(queue.busy) for unit, queue in model.queues.items()}
    return Prediction(cycles=round(now), macs=model.macs, busy=busy, kernels=_rounded(spent))


def _rounded(spent: Mapping[str, float]) -> dict[str, int]:
    """Return whole cycles whose sum is that of all, rounded."""
    found, total = {}, 0.0
    for name, cycles in spent.items():
        found[name] = round(total + cycles) - round(total)
        total += cycles
    return found
