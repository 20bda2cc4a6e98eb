"""Cycles of a Program without RTL: its commands through a model of sequencer, queues, semaphores, DMA and engines.

Commands are taken in program order, each unit keeping its own clock. What a unit does within a command is closed-form:
`hw.engines` and `hw.timing` say how long, this file says when it can start. Goal: within 2 % of the RTL.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import INSTRUCTION_BYTES, SEMAPHORES, Dataflow, Opcode, Unit
from hw.timing import vector_cycles
from sw.golden.sequencer import Event, mask_bits, run_sequencer
from sw.program import Program

__all__ = ["MemoryModel", "Prediction", "predict", "predict_code"]

START_CYCLES = 34           # from the doorbell to the first look-up: registers cleared, arguments copied
FETCH_START = 4             # from the doorbell to the request of the first line
LINE_BYTES = 64             # of an instruction line
LINES_AHEAD = 4             # lines on their way at once
FETCH_LATENCY = 4           # of a line, besides memory: request, address, last beat, hit
IN_FLIGHT = 4               # commands that a unit may have taken and not finished
OFFER = 1                   # from a command's arrival at the head of its queue, or its semaphores' grant, to its offer
SIGNAL = 1                  # from `done` to the cycle in which its semaphores can be granted
BURST_HOLD = 2              # cycles that a read burst holds its place besides latency and beats
LOAD_ADDRESS = 2            # from a load command to its first address
LOAD_WRITE = 1              # from a beat to the scratchpad, and `done`
STORE_DATA = 3              # from a store command to the cycle before its first beat
HALT_CYCLES = 2             # from the last `done` to the stop


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
    """

    cycles: int
    macs: int
    busy: dict[str, int] = field(default_factory=dict)


class _Fetch:
    """The instruction cache: when the sequencer can execute the first instruction of each line."""

    def __init__(self, config: AcceleratorConfig, memory: MemoryModel, model: "_Model", lines: int):
        self.model = model
        self.lines, self.last = config.command_lines, lines - 1
        self.beats = ceil_div(LINE_BYTES, config.beat_bytes) / memory.bandwidth
        self.delay = memory.latency + FETCH_LATENCY
        self.ahead = min(LINES_AHEAD, config.command_lines // 4)
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
        self.bus = max(now + self.delay, self.bus) + self.beats
        if self.model.bus + self.beats > self.bus:          # loads wait for the line's beats
            self.model.bus += self.beats
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
        self.semaphores: list[list[float]] = [[] for _ in range(SEMAPHORES)]
        self.bus = 0.0              # end of the last read beat
        self.turned = 0.0           # end of the last transposed beat; plain ones come after it
        self.load_next = 0.0        # when the load unit can take another command
        self.write_bus = 0.0
        self.streamed = 0.0         # cycle after the last slot that the matrix engine issued
        self.stream_start = 0.0     # cycle in which its last tile began to stream
        self.matrix_next = 0.0      # when the matrix engine can take another command
        self.drained = 0.0          # when its last output-stationary tile has left the psum chain
        self.vector_free = 0.0
        self.macs = 0

    # Units: from the cycle in which a command can be taken to (taken, done) --------------------------------------

    def load(self, at: float, f: Mapping[str, int]) -> tuple[float, float]:
        """One beat a cycle, less where short bursts do not cover the latency."""
        config, memory = self.config, self.memory
        beats = ceil_div(f["row_bytes"], config.beat_bytes)
        if f["transpose"]:
            bursts, total, longest = beats * f["rows"], beats * f["rows"], 1
        else:
            bursts, total = f["rows"] * ceil_div(beats, config.burst_beats), f["rows"] * beats
            longest = min(beats, config.burst_beats)
        held = (memory.latency + BURST_HOLD + longest) / config.outstanding_reads
        duration = max(total / memory.bandwidth, bursts * held, bursts)
        first = at + LOAD_ADDRESS + memory.latency
        if not f["transpose"]:
            self.bus = max(self.bus, first, self.turned) + duration
            done = self.bus + LOAD_WRITE
        else:
            whole = beats * ceil_div(f["rows"], config.beat_bytes) * config.beat_bytes
            self.bus = max(self.bus, first) + max(duration, whole)
            self.turned = self.bus + config.beat_bytes
            done = self.turned + LOAD_WRITE
        # The splitter takes the next command when it has given the last burst of this one.
        taken_next = max(at + bursts, self.bus - config.outstanding_reads * max(longest / memory.bandwidth, held))
        self.load_next = taken_next
        return at, done

    def store(self, at: float, f: Mapping[str, int]) -> tuple[float, float]:
        """One beat a cycle; the response comes a latency after the last."""
        beats = f["rows"] * ceil_div(f["row_bytes"], self.config.beat_bytes)
        self.write_bus = max(self.write_bus, at + STORE_DATA) + beats / self.memory.bandwidth
        return at, self.write_bus + self.memory.latency

    def vector(self, at: float, f: Mapping[str, int]) -> tuple[float, float]:
        """One command after the other."""
        cycles = vector_cycles(self.config, m=f["m"], n=f["n"], bias_en=bool(f["bias_en"]), per_channel=bool(f["per_channel"]))
        done = at + cycles - 1
        self.vector_free = done
        return at, done

    def matrix(self, at: float, f: Mapping[str, int]) -> tuple[float, float]:
        """Tiles back to back: see `hw.engines.matrix_command_cycles`."""
        config, m, n, k = self.config, f["m"], f["n"], f["k"]
        self.macs += m * n * k
        rows, columns = config.rows, config.columns
        n_groups = ceil_div(n, columns)
        shared = self._same_bank(f)
        if f["dataflow"] == Dataflow.WS:
            first_rows, last_rows = min(k, rows), (k - 1) % rows + 1
            cost = int.__add__ if shared else max           # in one bank, weights are loaded when no activation is read
            tiles, last_cost = n_groups * ceil_div(k, rows), cost(m, last_rows)
            start = max(self.streamed, max(at + 3, self.stream_start) + first_rows, self.drained)
            whole = n_groups * ((ceil_div(k, rows) - 1) * cost(m, rows) + last_cost)
            self.streamed = start + whole - cost(m, first_rows) + m
            before, self.stream_start = self.stream_start, self.streamed - m
            done = self.streamed + rows + columns + 1
        else:
            runs = ceil_div(k, config.os_depth)
            tiles = n_groups * ceil_div(m, rows)
            first_run, last_run = min(k, config.os_depth), (k - 1) % config.os_depth + 1
            slots = 2 if shared else 1                      # in one bank, the operands of a step are read in turn
            last_cost = max(slots * last_run, rows)
            whole = (runs - 1) * max(slots * config.os_depth, rows) + last_cost
            first_end = max(max(self.streamed, at + 4) + slots * first_run, self.drained)
            self.streamed = first_end + tiles * whole - max(slots * first_run, rows)
            before, self.stream_start = self.stream_start, self.streamed - last_run
            tiles *= runs
            self.drained = self.streamed + rows
            done = self.drained + rows + columns + 1
        # The next command is taken when the last tile has been handed on, that is, when the one before it began to stream.
        self.matrix_next = max(at + 2, (self.stream_start - last_cost if tiles > 1 else before) + 1)
        return at, done

    def _same_bank(self, f: Mapping[str, int]) -> bool:
        """Return whether the operands of a matrix command share a scratchpad bank."""
        m, k, bank = f["m"], f["k"], self.config.scratchpad_bank_bytes
        along, groups = (m, ceil_div(k, self.config.rows)) if f["dataflow"] == Dataflow.WS else (k, ceil_div(m, self.config.rows))
        banks = []
        for name, steps, tiles in (("activation", along, groups), ("weight", k, ceil_div(f["n"], self.config.columns))):
            first = f[f"{name}_addr"]
            last = first + (steps - 1) * f[f"{name}_stride"] + (tiles - 1) * f[f"{name}_tile_stride"]
            banks.append(range(first // bank, last // bank + 1))
        return max(banks[0].start, banks[1].start) < min(banks[0].stop, banks[1].stop)

    def ready(self, unit: Unit) -> float:
        """Return when a unit can take another command."""
        if unit == Unit.LOAD:
            return self.load_next
        if unit == Unit.VECTOR:
            return self.vector_free
        if unit == Unit.MATRIX:
            return self.matrix_next
        return 0.0

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
        at = max(offered, queue.place(), self.ready(event.unit))
        taken, done = getattr(self, event.unit.name.lower())(at, event.fields)
        queue.finish(taken, done)
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
    return predict_code(config, program.code, values, memory)


def predict_code(config: AcceleratorConfig, code: npt.NDArray[np.uint64], arguments: Mapping[int, int],
                 memory: MemoryModel | None = None) -> Prediction:
    """Return the cycles of instructions with these arguments (CSR index → value); see `predict`."""
    memory = memory or MemoryModel()
    model = _Model(config, memory)
    fetch = _Fetch(config, memory, model, ceil_div(len(code) * INSTRUCTION_BYTES, LINE_BYTES))
    now = float(START_CYCLES)
    issued = 0
    fetch.enter(0, FETCH_START)
    for event in run_sequencer(code, arguments):
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
    busy = {unit.name.lower(): round(queue.busy) for unit, queue in model.queues.items()}
    return Prediction(cycles=round(now), macs=model.macs, busy=busy)
