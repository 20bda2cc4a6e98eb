"""The vector unit between memories whose ports refuse at random, compiled: what a list of commands does to it and to them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out, connect

from flows.block_sim import BlockSim
from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import DESCRIPTORS, Unit
from hw.memory.fifo import StreamFIFO
from hw.ports import descriptor_layout
from hw.timing import vector_cycles
from hw.vector.unit import VectorUnit

__all__ = ["Memories", "Outcome", "Rig", "command", "run_commands"]

QUEUE = 32                  # commands of a batch
ABORT, SILENT = 3, 6        # cycles of an abort, the last of which must be silent, and cycles after it
WIDTHS = {one.name: one.width for one in DESCRIPTORS[Unit.VECTOR]}


def command(**fields: int) -> dict[str, int]:
    """Return a complete vector command: zeros, except for `fields`."""
    return dict.fromkeys(WIDTHS, 0) | fields


class Rig(wiring.Component):
    """A vector unit, its queue, and memories of one cycle; what is not asked for is noise on the ports.

    Members
    -------
    push, command, abort : In
        A command for the queue, which an abort empties.
    refuse : In
        A bit for each memory port, in the order of `ports`.
    noise : In(32)
    line_en, line, line_data, row_en, row, row_data : In
        To fill scratchpad and accumulator; `line` is also what `shown` shows one cycle later.
    taken, done, error, cause, addr, busy, ready, valids, refused, shown : Out
        What the unit does; `valids` and `refused`: a bit for each port. `ready`: a command would be taken.
    write_addr, write_data, write_mask : Out
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.ports = ("acc", *(["read_a"] if config.vector == "transformer" else []), "read_b", "read_c", "write")
        line, row = 8 * config.line_bytes, config.columns * config.acc_width
        lines = ceil_log2(config.scratchpad_lines)
        super().__init__({
            "push": In(1), "command": In(sum(WIDTHS.values())), "abort": In(1), "refuse": In(len(self.ports)), "noise": In(32),
            "line_en": In(1), "line": In(lines), "line_data": In(line),
            "row_en": In(1), "row": In(ceil_log2(config.accumulator_rows)), "row_data": In(row),
            "taken": Out(1), "done": Out(1), "error": Out(1), "cause": Out(8), "addr": Out(32), "busy": Out(1), "ready": Out(1),
            "valids": Out(len(self.ports)), "refused": Out(len(self.ports)), "shown": Out(line),
            "write_addr": Out(lines), "write_data": Out(line), "write_mask": Out(config.line_bytes),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        m.submodules.dut = dut = VectorUnit(config)
        m.submodules.queue = queue = ResetInserter(self.abort)(StreamFIFO(shape=descriptor_layout(Unit.VECTOR), depth=QUEUE))
        connect(m, queue=queue.o, unit=dut.unit.command)
        m.d.comb += [
            queue.i.valid.eq(self.push), Value.cast(queue.i.p).eq(self.command), dut.unit.abort.eq(self.abort),
            self.ready.eq(dut.unit.command.ready), self.taken.eq(dut.unit.command.valid & dut.unit.command.ready),
            self.done.eq(dut.unit.done), self.error.eq(dut.unit.error), self.cause.eq(dut.unit.report.cause),
            self.addr.eq(dut.unit.report.addr), self.busy.eq(dut.unit.busy), self.write_addr.eq(dut.write.addr),
            self.write_data.eq(dut.write.data), self.write_mask.eq(dut.write.mask),
        ]
        m.submodules.scratchpad = scratchpad = memory.Memory(shape=8 * config.line_bytes, depth=config.scratchpad_lines, init=[])
        m.submodules.accumulator = accumulator = memory.Memory(
            shape=config.columns * config.acc_width, depth=config.accumulator_rows, init=[])
        for store, enable, addr, data in ((scratchpad, self.line_en, self.line, self.line_data),
                                          (accumulator, self.row_en, self.row, self.row_data)):
            fill = store.write_port()
            m.d.comb += [fill.en.eq(enable), fill.addr.eq(addr), fill.data.eq(data)]
        show, write = scratchpad.read_port(), scratchpad.write_port(granularity=8)
        m.d.comb += [show.addr.eq(self.line), self.shown.eq(show.data)]
        for index, name in enumerate(self.ports):
            port = getattr(dut, name)
            accepted = port.valid & port.ready
            m.d.comb += [port.ready.eq(~self.refuse[index]), self.valids[index].eq(port.valid),
                         self.refused[index].eq(port.valid & ~port.ready)]
            if name == "write":
                m.d.comb += [write.addr.eq(port.addr), write.data.eq(port.data), write.en.eq(Mux(accepted, port.mask, 0))]
                continue
            read = (accumulator if name == "acc" else scratchpad).read_port()
            shown = Signal(name=f"{name}_shown")
            width = len(Value.cast(port.data))
            m.d.sync += shown.eq(accepted)
            m.d.comb += [read.addr.eq(port.addr), read.en.eq(accepted),
                         Value.cast(port.data).eq(Mux(shown, read.data, self.noise.replicate(-(-width // 32))[:width]))]
        return m


@dataclass(kw_only=True)
class Memories:
    """What the memories hold, and how their ports behave.

    Attributes
    ----------
    scratchpad : (scratchpad_bytes,) uint8
        Changed in place.
    accumulator : (accumulator_rows, C) integers
    stall : float
        Probability that a port refuses in a cycle.
    only : str or None
        The one that does; None: all.
    refused : dict of str to int
        Requests that were.
    """

    config: AcceleratorConfig
    scratchpad: npt.NDArray[np.uint8]
    accumulator: npt.NDArray[np.int64]
    stall: float = 0.0
    seed: int = 0
    only: str | None = None
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Outcome:
    """What a unit did with a list of commands."""

    cycles: list[int] = field(default_factory=list)     # of each command done, from the one that takes it to the one of `done`
    error: tuple[int, int] | None = None                # cause and address of the report


class _Script:
    """Inputs of a run, cycle after cycle."""

    def __init__(self, inputs: Sequence[str]):
        self.columns: dict[str, list[int]] = {name: [] for name in inputs}
        self.cycles = 0

    def cycle(self, count: int = 1, **values: int) -> None:
        """Append some cycles with the same values; inputs that are not named are 0."""
        for name, column in self.columns.items():
            column.extend([values.get(name, 0)] * count)
        self.cycles += count

    def arrays(self, widths: Mapping[str, int]) -> dict[str, npt.NDArray[np.uint64]]:
        """Return what BlockSim takes."""
        found = {}
        for name, column in self.columns.items():
            words = -(-widths[name] // 64)
            text = b"".join(value.to_bytes(8 * words, "little") for value in column)
            found[name] = np.frombuffer(text, np.uint64).reshape(-1, words)
            if words == 1:
                found[name] = found[name][:, 0]
        return found


def run_commands(memories: Memories, *batches: Sequence[Mapping[str, int]], aborts: Sequence[int] = ()) -> list[Outcome]:
    """Run each batch of commands back to back on one unit and return what happened; the scratchpad changes in place.

    A batch ends long after its last command, or after an error, with an abort. Before each, for every number in `aborts`, it is
    started and aborted that many cycles later. In every cycle the unit must keep the rules of its ports.
    """
    config = memories.config
    rig, simulator = _compiled(config)
    script = _Script([name for name in simulator.inputs if name not in ("refuse", "noise")])
    line_bytes = config.line_bytes
    for line in range(config.scratchpad_lines):
        script.cycle(line_en=1, line=line, line_data=_number(memories.scratchpad[line * line_bytes:(line + 1) * line_bytes]))
    for row, words in enumerate(memories.accumulator):
        mask = (1 << config.acc_width) - 1
        script.cycle(row_en=1, row=row, row_data=sum((int(word) & mask) << config.acc_width * j for j, word in enumerate(words)))

    segments, quiet = [], []
    for batch in batches:
        for limit in aborts:
            _start(script, batch, limit)
            quiet.append(_abort(script))
        first = script.cycles
        least = sum(20 + vector_cycles(config, one) for one in batch)
        _start(script, batch, 100 + int(least * (1 + 8 * memories.stall)))
        segments.append(slice(first, script.cycles))
        quiet.append(_abort(script))
    shown = script.cycles
    for line in range(config.scratchpad_lines):
        script.cycle(line=line)
    script.cycle()

    rng = np.random.default_rng(memories.seed)
    stalls = [rng.random(script.cycles) < memories.stall * (memories.only in (None, name)) for name in rig.ports]
    widths = {name: len(Value.cast(getattr(rig, name))) for name in script.columns}
    trace = simulator.run({**script.arrays(widths), "noise": rng.integers(0, 1 << 32, script.cycles, dtype=np.uint64),
                           "refuse": sum(one.astype(np.uint64) << np.uint64(index) for index, one in enumerate(stalls))})
    last = trace["shown"][shown + 1:].reshape(config.scratchpad_lines, -1)
    memories.scratchpad[:] = np.ascontiguousarray(last).view(np.uint8)[:, :line_bytes].reshape(-1)
    memories.refused = {name: int((trace["refused"] >> np.uint64(index) & np.uint64(1)).sum())
                        for index, name in enumerate(rig.ports)}
    _check_writes(trace, np.array(script.columns["abort"], bool), len(rig.ports) - 1)
    for one in quiet:
        for name in ("done", "error", "busy", "valids", "taken"):
            assert not trace[name][one].any(), f"{name} after an abort"
    return [_outcome({name: words[segment] for name, words in trace.items()}) for segment in segments]


@functools.cache
def _compiled(config: AcceleratorConfig) -> tuple[Rig, BlockSim]:
    rig = Rig(config)
    return rig, BlockSim(rig, "vector_rig")


def _number(data: npt.NDArray[np.uint8]) -> int:
    return int.from_bytes(data.tobytes(), "little")


def _start(script: _Script, batch: Sequence[Mapping[str, int]], cycles: int) -> None:
    """Push a batch into the queue and let so many cycles go by in all."""
    assert len(batch) <= QUEUE
    for fields in batch[:cycles]:
        packed, low = 0, 0
        for name, width in WIDTHS.items():
            packed |= fields[name] << low
            low += width
        script.cycle(push=1, command=packed)
    script.cycle(max(0, cycles - len(batch)))


def _abort(script: _Script) -> slice:
    """Abort; return the cycles in which the unit must be silent."""
    script.cycle(ABORT, abort=1)
    script.cycle(SILENT)
    return slice(script.cycles - SILENT - 1, script.cycles)


def _check_writes(trace: Mapping[str, npt.NDArray[np.uint64]], abort: npt.NDArray[np.bool_], port: int) -> None:
    """Check that an offer of the write port stays until it is taken, or aborted."""
    held = (trace["refused"] >> np.uint64(port) & np.uint64(1)).astype(bool) & ~abort
    before, after = np.flatnonzero(held[:-1]), np.flatnonzero(held[:-1]) + 1
    assert (trace["valids"][after] >> np.uint64(port) & np.uint64(1)).all(), "a write was withdrawn"
    for name in ("write_addr", "write_data", "write_mask"):
        assert np.array_equal(trace[name][before], trace[name][after]), f"{name} changed before it was taken"


def _outcome(trace: Mapping[str, npt.NDArray[np.uint64]]) -> Outcome:
    """Return what happened in a batch; check `busy`, and that a stopped unit does nothing."""
    taken, done, error = (trace[name].astype(bool) for name in ("taken", "done", "error"))
    under_way = np.cumsum(taken) - taken - np.cumsum(done)
    assert np.array_equal(trace["busy"].astype(bool), (under_way > 0) & ~error)
    outcome = Outcome(cycles=[int(end - begin) for begin, end in zip(np.flatnonzero(taken), np.flatnonzero(done), strict=False)])
    if error.any():
        stopped = slice(int(error.argmax()), None)
        assert error[stopped].all()
        assert not any(trace[name][stopped].any() for name in ("valids", "ready", "done"))
        for name in ("cause", "addr"):
            assert len(np.unique(trace[name][stopped])) == 1
        outcome.error = (int(trace["cause"][stopped][0]), int(trace["addr"][stopped][0]))
    return outcome
