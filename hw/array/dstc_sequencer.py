"""Cuts matrix commands of the dual-side sparse engine into chunks of K."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring

from hw.array.commands import cutter_members, misaligned, packed_rules, refuse
from hw.array.outer_loops import OuterLoops
from hw.array.tile import advance, running_address
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.dstc import dstc_chunk, dstc_records, dstc_tokens
from hw.isa import DESCRIPTORS, ErrorCause, Unit
from hw.ports import descriptor_layout

__all__ = ["DstcSequencer", "dstc_chunk_layout", "dstc_tag_layout"]

_WIDTHS = {field.name: field.width for field in DESCRIPTORS[Unit.MATRIX]}


def dstc_tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of what becomes of a tile's rows: `addr` is the first one's; `last`: of the command."""
    return data.StructLayout({"addr": ceil_log2(config.accumulator_rows), "accumulate": 1, "last": 1})


def dstc_chunk_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a chunk: some k of a tile of tokens and C outputs.

    `fresh`: first of K, so operands start at the given addresses, else they go on; `ends`: sums leave after it; `mode`: of its
    weights, 0 plain; `depth`: its k; `columns`: valid outputs.
    """
    return data.StructLayout({
        "fresh": 1,
        "ends": 1,
        "last": 1,
        "accumulate": 1,
        "mode": range(len(config.weight_formats) + 1),
        "activation_addr": running_address("activation_addr"),
        "activation_stride": _WIDTHS["activation_stride"],
        "weight_addr": running_address("weight_addr"),
        "weight_stride": _WIDTHS["weight_stride"],
        "acc_addr": running_address("acc_addr"),
        "tokens": range(dstc_tokens(config) + 1),
        "depth": range(dstc_chunk(config) + 1),
        "columns": range(config.columns + 1),
    })


class DstcSequencer(wiring.Component):
    """Checks a command and gives its chunks in order: n-group → tile of tokens → run of `os_depth` of K → chunk.

    The first one comes `latency` cycles after the command was taken, then one a cycle; the next command is taken in the cycle
    after the last chunk at the earliest.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of commands), o : Out(stream of `dstc_chunk_layout`)
    fault : Out(1), report : Out(ErrorReport)
        Level: the command taken last is wrong; nothing more comes until reset.
    busy : Out(1)
        A command is being cut.
    """

    latency = 3

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(cutter_members(dstc_chunk_layout(config)))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, chunk = self.config, self.o.p
        size = dstc_chunk(config)
        command = Signal(descriptor_layout(Unit.MATRIX))
        loops = OuterLoops(config, command, tokens=dstc_tokens(config))
        k_left, activation = Signal.like(command.k), Signal(chunk.activation_addr.shape())
        fresh, first_run = Signal(), Signal()
        run_left = Signal(range(config.os_depth // size + 1))
        last_k = k_left <= size
        m.d.comb += [
            chunk.fresh.eq(fresh), chunk.ends.eq(last_k | (run_left == 1)), chunk.last.eq(loops.last_n & loops.last_m & last_k),
            chunk.accumulate.eq(command.accumulate | ~first_run), chunk.mode.eq(command.mode),
            chunk.activation_addr.eq(activation), chunk.activation_stride.eq(command.activation_stride),
            chunk.weight_addr.eq(loops.weight), chunk.weight_stride.eq(command.weight_stride), chunk.acc_addr.eq(loops.acc),
            chunk.tokens.eq(loops.tokens), chunk.depth.eq(Mux(last_k, k_left, size)), chunk.columns.eq(loops.columns),
        ]

        def start_chunks(address: Any) -> list:
            return [fresh.eq(1), first_run.eq(1), run_left.eq(config.os_depth // size), k_left.eq(command.k),
                    activation.eq(address)]

        with m.FSM(name="sequencer"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(self.i.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += loops.begin()
                m.next = "START"
                refuse(m, self._rules(command), self.report)
            with m.State("START"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += start_chunks(loops.activation)
                m.next = "CHUNKS"
            with m.State("CHUNKS"):
                m.d.comb += [self.busy.eq(1), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.d.sync += [fresh.eq(0), run_left.eq(run_left - 1)]
                    with m.If(~last_k):
                        m.d.sync += [k_left.eq(k_left - size), activation.eq(advance(activation, Const(size)))]
                        with m.If(run_left == 1):
                            m.d.sync += [first_run.eq(0), run_left.eq(config.os_depth // size)]
                    with m.Elif(~loops.last_m):
                        m.d.sync += [*loops.next_m(), *start_chunks(loops.below)]
                    with m.Elif(~loops.last_n):
                        m.d.sync += [*loops.next_n(), *start_chunks(loops.top)]
                    with m.Else():
                        m.next = "IDLE"
            with m.State("FAULT"):
                m.d.comb += [self.busy.eq(1), self.fault.eq(1)]
        return m

    def _rules(self, command: Any) -> list:
        """Return what a command must not be; the first rule that is broken is the one reported."""
        config = self.config
        slot = config.weight_slot_bytes
        stride = (command.mode == 0) & ((command.weight_stride & (slot - 1)) != 0)
        return [*packed_rules(command),
                (command.mode > len(dstc_records(config)), ErrorCause.UNSUPPORTED, command.mode),
                misaligned(command.weight_addr, slot), (stride, ErrorCause.MISALIGNED, command.weight_stride),
                misaligned(command.weight_tile_stride, slot)]
