"""A processing element that multiplies compressed activations by compressed weights, as Eyeriss v2's: a baseline."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.memory.fifo import StreamFIFO

__all__ = ["SparsePE"]


class SparsePE(wiring.Component):
    """One MAC a cycle, for pairs of an activation and a weight of its channel that are both not zero, and for nothing else.

        activations ─▶ drop those without weights ─▶ FIFO ─▶ weights of its channel, one a cycle ─▶ product ─▶ psum

    Weights are stored by channel: entries (value, output) and, for each channel, where its entries begin and end. From the first
    weight to the last, activations being there: Σ over channels of nnzW(c)·nnzA(c) cycles; a psum is right `latency` cycles after
    its last one. So a channel without weights costs none, as long as the FIFO does not run empty over it.

    Source: Chen et al., Eyeriss v2, JETCAS 2019; sizes of the scratchpads as in Sparseloop's artifact (found), datapath inferred;
    of its two MACs a PE here has one.

    Parameters
    ----------
    channels, outputs, weights : int
        Channels, psums, and weight entries.
    depth : int
        Activations that wait.
    psum_width : int

    Members
    -------
    write_en, write_place, write_value, write_output : In
        A weight entry.
    bound_en, bound_channel, bound_first, bound_end : In
        A channel's entries: from `bound_first` up to, without, `bound_end`.
    i : In(stream of {value: signed(8), channel})
        Activations that are not zero.
    clear : In(1)
        Empty the psums.
    multiply : Out(1)
        A MAC is issued.
    busy : Out(1)
    output : In(range(outputs)), psum : Out(signed(psum_width))
    """

    latency = 3

    def __init__(self, *, channels: int, outputs: int, weights: int, depth: int = 16, psum_width: int = 20):
        self.channels, self.outputs, self.weights, self.depth, self.psum_width = channels, outputs, weights, depth, psum_width
        place = range(weights + 1)
        super().__init__({
            "write_en": In(1),
            "write_place": In(range(weights)),
            "write_value": In(signed(8)),
            "write_output": In(range(outputs)),
            "bound_en": In(1),
            "bound_channel": In(range(channels)),
            "bound_first": In(place),
            "bound_end": In(place),
            "i": In(stream.Signature(data.StructLayout({"value": signed(8), "channel": range(channels)}))),
            "clear": In(1),
            "multiply": Out(1),
            "busy": Out(1),
            "output": In(range(outputs)),
            "psum": Out(signed(psum_width)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bounds_layout = data.StructLayout({"first": range(self.weights + 1), "end": range(self.weights + 1)})
        m.submodules.bounds = bounds = memory.Memory(shape=bounds_layout, depth=self.channels, init=[])
        bound_write, bound_read = bounds.write_port(), bounds.read_port(domain="comb")
        m.d.comb += [bound_write.addr.eq(self.bound_channel), bound_write.data.first.eq(self.bound_first),
                     bound_write.data.end.eq(self.bound_end), bound_write.en.eq(self.bound_en),
                     bound_read.addr.eq(self.i.p.channel)]

        waiting = data.StructLayout({"value": signed(8), "first": range(self.weights + 1), "end": range(self.weights + 1)})
        m.submodules.fifo = fifo = StreamFIFO(shape=waiting, depth=self.depth)
        some = bound_read.data.first != bound_read.data.end
        m.d.comb += [fifo.i.p.value.eq(self.i.p.value), fifo.i.p.first.eq(bound_read.data.first),
                     fifo.i.p.end.eq(bound_read.data.end), fifo.i.valid.eq(self.i.valid & some),
                     self.i.ready.eq(fifo.i.ready | ~some)]

        entry = data.StructLayout({"value": signed(8), "output": range(self.outputs)})
        m.submodules.entries = entries = memory.Memory(shape=entry, depth=self.weights, init=[])
        write, read = entries.write_port(), entries.read_port()
        begun = Signal()
        place = Signal(range(self.weights + 1))
        now = Signal(range(self.weights + 1))
        m.d.comb += [
            write.addr.eq(self.write_place), write.data.value.eq(self.write_value), write.data.output.eq(self.write_output),
            write.en.eq(self.write_en),
            now.eq(Mux(begun, place, fifo.o.p.first)), read.addr.eq(now[:ceil_log2(self.weights)]), read.en.eq(self.multiply),
            self.multiply.eq(fifo.o.valid), fifo.o.ready.eq(now + 1 == fifo.o.p.end),
        ]
        m.d.sync += [begun.eq(self.multiply & ~fifo.o.ready), place.eq(now + 1)]

        activation, product = Signal(signed(8), reset_less=True), Signal(signed(16), reset_less=True)
        there, ready = Signal(), Signal()
        output = Signal(range(self.outputs), reset_less=True)
        m.d.sync += [activation.eq(fifo.o.p.value), there.eq(self.multiply), product.eq(activation * read.data.value),
                     output.eq(read.data.output), ready.eq(there)]
        psums = Signal(data.ArrayLayout(signed(self.psum_width), self.outputs))
        with m.If(self.clear):
            m.d.sync += psums.eq(0)
        with m.Elif(ready):
            m.d.sync += psums[output].eq(psums[output] + product)
        m.d.comb += [self.psum.eq(psums[self.output]), self.busy.eq(fifo.o.valid | there | ready)]
        return m
