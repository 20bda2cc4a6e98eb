"""The datapath of the vector unit in Verilator: commands one after the other, each stream with gaps of its own."""

from dataclasses import dataclass, field
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
        members: dict[str, Any] = {"command": In(descriptor_layout(Unit.VECTOR)), "o_ready": In(1), "o_valid": Out(1), "busy": Out(1),
                                   "o_slice": Out(slice_layout(config)), "o_words": Out(32 * config.vector_lanes)}
        for name in self.streams:
            members |= {f"{name}_push": In(1), f"{name}_data": In(len(Value.cast(getattr(datapath, name).p))), f"{name}_gate": In(1)}
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
    """What came out: (count, first, last, lanes) of each slice, and scalars of rows; `cycles` from the first offer to `busy` low."""

    slices: list[tuple[int, int, int]] = field(default_factory=list)
    words: Words
    sums: list[int]
    maxima: list[int]
    cycles: int


class DatapathSim:
    """A datapath of `config`, compiled."""

    def __init__(self, config: AcceleratorConfig, name: str):
        self._config, self._bench = config, _Bench(config)
        self._layout = slice_layout(config)
        self._sim = BlockSim(self._bench, f"vector_datapath_{name}")

    def run(self, commands: list[Operands], *, stall: float = 0.0, seed: int = 0) -> list[Found]:
        """Run commands one after the other; in each cycle a stream pauses, and the output is refused, with probability `stall`."""
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
                for low, high in zip(bounds, bounds[1:], strict=False)]

    def _window(self, command: Operands, stall: float, rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs of the cycles that a command may take."""
        lanes, layout = self._config.vector_lanes, self._layout
        rows, columns = command.a.shape
        slices = ceil_div(columns, lanes)
        items: dict[str, npt.NDArray[Any]] = {}
        limits = command.fields["mask"] + np.arange(rows) * command.fields["mask_step"]
        for name in ("a", "b", "c"):
            if (words := getattr(command, name)) is not None:
                noise = rng.integers(0, 1 << 32, (rows, slices * lanes), np.uint32)     # in lanes without an element
                noise[:, :columns] = words
                items[name] = noise.reshape(-1, lanes)
        descriptions = []
        for row in range(rows):
            for index in range(slices):
                count = min(lanes, columns - index * lanes)
                valid = min(max(int(limits[row]) - index * lanes, 0), count)
                descriptions.append(layout.const({"count": count, "valid_count": valid, "first": index == 0,
                                                  "last": index == slices - 1}).as_bits())
        width = Shape.cast(layout).width
        ways = -(-width // 32)
        described = np.array([[word >> 32 * way & 0xFFFF_FFFF for way in range(ways)] for word in descriptions], np.uint64)
        assert width <= 32
        packed = items.pop("a").astype(object)
        whole = [int(described[index, 0]) | sum(int(word) << (width + 32 * lane) for lane, word in enumerate(row))
                 for index, row in enumerate(packed)]
        bits = width + 32 * lanes
        columns_of = {"i": np.array([[word >> 64 * way & (1 << 64) - 1 for way in range(-(-bits // 64))] for word in whole], np.uint64)}
        columns_of["i"] = columns_of["i"][:len(whole) - command.dropped]
        columns_of |= {name: pack_lanes(words, 32).reshape(len(words), -1) for name, words in items.items()}
        for name in ("row0", "row1"):
            if (words := getattr(command, name)) is not None:
                columns_of[name] = words.astype(np.uint64).reshape(-1, 1)

        cycles = int((rows * slices + 40) * (1.5 if not stall else 6 / (1 - stall))) + 80
        window: dict[str, npt.NDArray[Any]] = {}
        for name in self._bench.streams:
            size = -(-len(Value.cast(getattr(self._bench, f"{name}_data"))) // 64)
            data, count = np.zeros((cycles, size), np.uint64), len(columns_of.get(name, ()))
            if count:
                data[:count] = columns_of[name]
            window |= {f"{name}_push": (np.arange(cycles) < count).astype(np.uint8),
                       f"{name}_data": data[:, 0] if size == 1 else data,
                       f"{name}_gate": (rng.random(cycles) >= stall).astype(np.uint8)}
        window["o_ready"] = (rng.random(cycles) >= stall).astype(np.uint8)
        if self._bench.results:
            flush = np.zeros(cycles, np.uint8)
            flush[cycles // 2 if command.dropped else cycles:] = 1
            window["flush"] = flush
        word, shift = 0, 0
        for entry in DESCRIPTORS[Unit.VECTOR]:
            word |= command.fields[entry.name] << shift
            shift += entry.width
        window["command"] = np.tile(np.array([word >> 64 * way & (1 << 64) - 1 for way in range(-(-shift // 64))], np.uint64),
                                    (cycles, 1))
        return window

    def _found(self, outputs: dict[str, npt.NDArray[Any]], ready: npt.NDArray[np.uint8]) -> Found:
        lanes = self._config.vector_lanes
        taken = (outputs["o_valid"] == 1) & (ready == 1)
        views = [self._layout.from_bits(int(word)) for word in outputs["o_slice"][taken]]
        words = outputs["o_words"][taken].reshape(int(taken.sum()), -1).astype("<u8").view("<u4")[:, :lanes]
        scalars = {name: [int(word) >> 1 for word in outputs[name] if word & 1] for name in self._bench.results}
        assert outputs["busy"][-1] == 0, "busy at the end of the time allowed"
        busy = np.flatnonzero(outputs["busy"])
        return Found(slices=[(view.count, view.first, view.last) for view in views], words=words,
                     sums=scalars.get("sums", []), maxima=scalars.get("maxima", []), cycles=int(busy[-1]) + 1 if busy.size else 0)
