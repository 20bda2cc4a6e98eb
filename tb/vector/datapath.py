"""The datapath of the vector unit in Verilator: commands one after the other, each stream with gaps of its own."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect

from flows.block_sim import BlockSim, pack_lanes
from hw.config import AcceleratorConfig, ceil_div
from hw.isa import DESCRIPTORS, Unit
from hw.ports import descriptor_layout
from hw.vector.datapath import Datapath
from hw.vector.layouts import slice_layout

__all__ = ["DatapathSim", "Found", "Operands"]

Words = npt.NDArray[np.uint32]
QUEUE_DEPTH = 4096


class _Queue(wiring.Component):
    """Keeps what is pushed, and offers it in order, an item no earlier than `gate` allows."""

    def __init__(self, shape: Any):
        self._shape = shape
        super().__init__({"push": In(1), "data": In(Shape.cast(shape).width), "gate": In(1), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=len(self.data), depth=QUEUE_DEPTH, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        following = Signal.like(read.addr)
        m.d.comb += [
            write.en.eq(self.push), write.data.eq(self.data), Value.cast(self.o.p).eq(read.data),
            following.eq(read.addr + (self.o.valid & self.o.ready)),
        ]
        m.d.sync += [write.addr.eq(write.addr + self.push), read.addr.eq(following)]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += self.o.valid.eq(self.gate & (following != write.addr))
        return m


class _Bench(wiring.Component):
    """The datapath behind queues."""

    def __init__(self, config: AcceleratorConfig):
        self._datapath = datapath = Datapath(config)
        self.streams = tuple(name for name in ("i", "b", "c", "row0", "row1") if hasattr(datapath, name))
        members: dict[str, Any] = {
            "command": In(descriptor_layout(Unit.VECTOR)), "o_ready": In(1), "o_valid": Out(1), "busy": Out(1),
            "o_slice": Out(slice_layout(config)), "o_words": Out(32 * config.vector_lanes),
        }
        for name in self.streams:
            width = Value.cast(getattr(datapath, name).p).shape().width
            members |= {f"{name}_push": In(1), f"{name}_data": In(width), f"{name}_gate": In(1)}
        self.results = tuple(name for name in ("sums", "maxima") if hasattr(datapath, name))
        if self.results:
            members |= {"flush": In(1), **{name: Out(33) for name in self.results}}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.datapath = datapath = self._datapath
        m.d.comb += [
            datapath.command.eq(self.command), datapath.o.ready.eq(self.o_ready), self.o_valid.eq(datapath.o.valid),
            self.o_slice.eq(datapath.o.p.slice), self.o_words.eq(datapath.o.p.words), self.busy.eq(datapath.busy),
        ]
        for name in self.streams:
            port = getattr(datapath, name)
            m.submodules[f"{name}_queue"] = queue = _Queue(port.p.shape())
            connect(m, queue=queue.o, port=port)
            m.d.comb += [queue.push.eq(getattr(self, f"{name}_push")), queue.data.eq(getattr(self, f"{name}_data")),
                         queue.gate.eq(getattr(self, f"{name}_gate"))]
        for name in self.results:
            m.d.comb += getattr(self, name).eq(getattr(datapath, name))
        if self.results:
            m.d.comb += datapath.flush.eq(self.flush)
        return m


@dataclass(kw_only=True)
class Operands:
    """What a command gets: words of (m, n) elements, (m,) row scalars; None where it asks for nothing.

    Attributes
    ----------
    dropped : int
        Slices at the end that never come: `flush` rises instead.
    """

    fields: dict[str, int]
    a: Words
    b: Words | None = None
    c: Words | None = None
    row0: Words | None = None
    row1: Words | None = None
    dropped: int = 0


@dataclass(kw_only=True)
class Found:
    """What came out.

    Attributes
    ----------
    slices : (slices,) words of `slice_layout`
    words : (slices, lanes) uint32
    sums, maxima : (rows,) words
    cycles : int
        With `busy`, from the first slice's first stage on.
    """

    slices: npt.NDArray[np.uint64]
    words: Words
    sums: npt.NDArray[np.uint64]
    maxima: npt.NDArray[np.uint64]
    cycles: int


class DatapathSim:
    """A datapath of `config`, compiled."""

    def __init__(self, config: AcceleratorConfig, name: str):
        self._config, self._bench = config, _Bench(config)
        self._layout = slice_layout(config)
        self._sim = BlockSim(self._bench, f"vector_datapath_{name}")

    def run(self, commands: list[Operands], *, stall: float = 0.0, seed: int = 0) -> list[Found]:
        """Run commands one after the other; with probability `stall` a stream pauses in a cycle, and the output is refused."""
        rng = np.random.default_rng(seed)
        windows = [self._window(command, stall, rng) for command in commands]
        inputs = {name: np.concatenate([window[name] for window in windows]) for name in windows[0]}
        outputs = self._sim.run(inputs)
        bounds = np.cumsum([0, *(len(window["o_ready"]) for window in windows)])
        waits = (outputs["o_valid"] == 1) & (inputs["o_ready"] == 0)
        for name in ("o_valid", "o_slice", "o_words"):
            held = outputs[name][:-1] == outputs[name][1:]
            assert (held if held.ndim == 1 else held.all(axis=1))[waits[:-1]].all(), f"{name} changed before it was taken"
        return [self._found({name: column[low:high] for name, column in outputs.items()}, inputs["o_ready"][low:high])
                for low, high in pairwise(bounds)]

    def _window(self, command: Operands, stall: float, rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs of the cycles that a command may take."""
        rows, columns = command.a.shape
        slices = ceil_div(columns, self._config.vector_lanes)
        items = self._items(command, rng)
        cycles = int((rows * slices + 40) * (1.5 if not stall else 6 / (1 - stall))) + 80
        window: dict[str, npt.NDArray[Any]] = {"o_ready": (rng.random(cycles) >= stall).astype(np.uint8)}
        for name in self._bench.streams:
            words = -(-Value.cast(getattr(self._bench, f"{name}_data")).shape().width // 64)
            data, given = np.zeros((cycles, words), np.uint64), items.get(name, np.zeros((0, words), np.uint64))
            data[:len(given)] = given
            window |= {f"{name}_push": (np.arange(cycles) < len(given)).astype(np.uint8),
                       f"{name}_data": data if words > 1 else data[:, 0],
                       f"{name}_gate": (rng.random(cycles) >= stall).astype(np.uint8)}
        if self._bench.results:
            window["flush"] = (np.arange(cycles) >= (cycles // 2 if command.dropped else cycles)).astype(np.uint8)
        fields = descriptor_layout(Unit.VECTOR)
        word = fields.const({entry.name: command.fields[entry.name] for entry in DESCRIPTORS[Unit.VECTOR]}).as_bits()
        window["command"] = np.tile(_words(word, fields.size), (cycles, 1))
        return window

    def _items(self, command: Operands, rng: np.random.Generator) -> dict[str, npt.NDArray[np.uint64]]:
        """Return what goes into each queue, (items, 64-bit words)."""
        lanes = self._config.vector_lanes
        rows, columns = command.a.shape
        slices = ceil_div(columns, lanes)
        found = {}
        for name in ("a", "b", "c"):
            if (words := getattr(command, name)) is not None:
                padded = rng.integers(0, 1 << 32, (rows, slices * lanes), np.uint32)    # noise in lanes without an element
                padded[:, :columns] = words
                found[name] = padded.reshape(-1, lanes)
        first = np.arange(slices) * lanes
        limits = command.fields["mask"] + np.arange(rows) * command.fields["mask_step"]
        count = np.broadcast_to(np.minimum(columns - first, lanes), (rows, slices))
        described = {"count": count, "valid_count": np.clip(limits[:, None] - first, 0, count),
                     "first": np.broadcast_to(first == 0, (rows, slices)),
                     "last": np.broadcast_to(first + lanes >= columns, (rows, slices))}
        slice_words = np.zeros(rows * slices, np.uint64)
        for name, column in described.items():
            slice_words |= column.reshape(-1).astype(np.uint64) << np.uint64(self._layout[name].offset)
        a = pack_lanes(found.pop("a"), 32).reshape(rows * slices, -1)
        shift = np.uint64(self._layout.size)                    # the description lies below the elements
        low = np.concatenate([a << shift, np.zeros((len(a), 1), np.uint64)], axis=1)
        low[:, 1:] |= a >> (np.uint64(64) - shift)
        low[:, 0] |= slice_words
        items = {name: pack_lanes(words, 32).reshape(len(words), -1) for name, words in found.items()}
        items["i"] = low[:len(low) - command.dropped, :-(-(self._layout.size + 32 * lanes) // 64)]
        for name in ("row0", "row1"):
            if (words := getattr(command, name)) is not None:
                items[name] = words.astype(np.uint64).reshape(-1, 1)
        return items

    def _found(self, outputs: dict[str, npt.NDArray[Any]], ready: npt.NDArray[np.uint8]) -> Found:
        lanes = self._config.vector_lanes
        taken = (outputs["o_valid"] == 1) & (ready == 1)
        words = outputs["o_words"][taken].reshape(int(taken.sum()), -1).astype("<u8").view("<u4")[:, :lanes]
        scalars = {name: outputs[name][outputs[name] & 1 == 1] >> 1 for name in self._bench.results}
        assert outputs["busy"][-1] == 0, "busy at the end of the time allowed"
        busy = np.flatnonzero(outputs["busy"])
        return Found(slices=outputs["o_slice"][taken], words=words, cycles=int(busy[-1] - busy[0]) + 1,
                     **{name: scalars.get(name, np.zeros(0, np.uint64)) for name in ("sums", "maxima")})


def _words(value: int, width: int) -> npt.NDArray[np.uint64]:
    """Return a number as 64-bit words, low word first."""
    return np.array([value >> low & (1 << 64) - 1 for low in range(0, width, 64)], np.uint64)
