"""The BitMoD engine's line buffer: rows of activations in, four k of each row at a time out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.bitmod_tiles import bitmod_tile_layout
from hw.array.tile import advance, running_address
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.bitmod import bitmod_block_bytes
from hw.pe.bitmod.precision import LANES
from hw.ports import ScratchpadReadPort

__all__ = ["LineBuffer"]


class LineBuffer(wiring.Component):
    """Reads the rows of tiles by blocks and gives them step by step; the next block is read while the present one is used.

    A block is of the same bytes of each valid row, one line read for each: B bytes (`hw.engines.bitmod.bitmod_block_bytes`) up
    to the next multiple of B, of the row's end, or of the largest power of two that the stride of the rows is a multiple of, so
    that a block of every row lies in one line.

    A tile's first step is there `latency` + R' − 1 cycles after the tile was taken, R' valid rows; a block of P steps of T
    cycles each takes max(P·T, R') cycles, R' those of the next.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of `bitmod_tile_layout`), read : Out(ScratchpadReadPort)
    valid : Out(1), words : Out(R × 4 × 8 or 16)
        Activations of the present step; rows beyond the valid ones and k beyond K hold anything.
    step : In(1)
        The present step was taken.
    halt : In(1)
        Read nothing.
    fault : Out(1), addr : Out(running address)
        Level: the line to read next, at `addr`, is not in the scratchpad, and none is on its way.
    """

    latency = 3

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(bitmod_tile_layout(config))),
            "read": Out(ScratchpadReadPort(config)),
            "valid": Out(1),
            "words": Out(data.ArrayLayout(data.ArrayLayout(config.activation.bits, LANES), config.rows)),
            "step": In(1),
            "halt": In(1),
            "fault": Out(1),
            "addr": Out(running_address("activation_addr")),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        filled, use, sizes = Signal(2), Signal(), self._sizes()
        position = Signal(sizes[0].shape())
        blocks = self._fetch(m, filled, sizes)

        m.d.comb += self.valid.eq(Array(filled)[use])
        with m.If(self.step):
            m.d.sync += position.eq(position + 1)
            with m.If(position == Array(sizes)[use]):
                m.d.sync += [position.eq(0), use.eq(~use)]
                with m.Switch(use):
                    for half in range(2):
                        with m.Case(half):
                            m.d.sync += filled[half].eq(0)
        width = self.config.activation.bits * LANES
        for r, halves in enumerate(blocks):
            steps = Array(block[low:low + width] for block in halves for low in range(0, len(block), width))
            m.d.comb += self.words[r].as_value().eq(steps[Cat(position, use)])
        return m

    def _sizes(self) -> list[Signal]:
        """Return, for each half, the steps of its block, less one."""
        steps = bitmod_block_bytes(self.config) // (LANES * self.config.activation_bytes)
        return [Signal(ceil_log2(steps), name=f"size_{half}", reset_less=True) for half in range(2)]

    def _fetch(self, m: Module, filled: Signal, sizes: list[Signal]) -> list[list[Signal]]:
        """Read blocks into whatever half is free; return the halves of each row."""
        config, read = self.config, self.read
        block_bytes, row_bytes = bitmod_block_bytes(config), config.activation_slot_bytes
        step_bytes = LANES * config.activation_bytes
        loaded, fill = Signal(), Signal()
        tile = Signal(bitmod_tile_layout(config), reset_less=True)
        block_addr, row_addr = (Signal(running_address("activation_addr"), name=name, reset_less=True)
                                for name in ("block_addr", "row_addr"))
        left = Signal(tile.k.shape(), reset_less=True)              # steps from this block on, less one
        row = Signal(range(config.rows), reset_less=True)
        mask = Signal(ceil_log2(block_bytes), reset_less=True)      # of the address bits inside a block
        room = Signal(len(mask) - ceil_log2(step_bytes))               # steps to the next block's border, less one
        size = Signal.like(room)
        granted, last_row, last_block, beyond = Signal(), Signal(), Signal(), Signal()
        inside = block_addr.value[:len(mask)]
        m.d.comb += [
            room.eq((~inside & mask) >> ceil_log2(step_bytes)),
            last_block.eq(left <= room), size.eq(Mux(last_block, left, room)), last_row.eq(row == tile.rows - 1),
            self.addr.eq(row_addr), beyond.eq(loaded & (row_addr.overflow | (row_addr.value >= config.scratchpad_bytes))),
            read.addr.eq(row_addr.value >> ceil_log2(config.line_bytes)),
            read.valid.eq(loaded & ~Array(filled)[fill] & ~beyond & ~self.halt), granted.eq(read.valid & read.ready),
            self.i.ready.eq(~loaded | (granted & last_row & last_block)),
        ]
        with m.If(granted):
            m.d.sync += [row.eq(row + 1), row_addr.eq(advance(row_addr, tile.activation_stride))]
            with m.If(last_row):
                behind = advance(block_addr, Cat(C(step_bytes - 1, ceil_log2(step_bytes)), size) + 1)
                m.d.sync += [row.eq(0), row_addr.eq(behind), block_addr.eq(behind), left.eq(left - size - 1), fill.eq(~fill)]
        with m.If(self.i.ready):
            m.d.sync += loaded.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            new = self.i.p
            m.d.sync += [
                tile.eq(new), block_addr.eq(new.activation), row_addr.eq(new.activation), row.eq(0),
                left.eq((new.k - 1) >> ceil_log2(LANES)),
                mask.eq(Cat(~new.activation_stride[:bit + 1].any() for bit in range(len(mask)))),
            ]

        arriving, arriving_last, into = Signal(), Signal(), Signal()
        arriving_row, arriving_size = Signal.like(row), Signal.like(size)
        offset = Signal(range(config.line_bytes // row_bytes))
        m.d.sync += arriving.eq(granted)
        m.d.comb += self.fault.eq(beyond & ~arriving)
        with m.If(granted):
            m.d.sync += [arriving_last.eq(last_row), into.eq(fill), arriving_row.eq(row), arriving_size.eq(size),
                         offset.eq(row_addr.value >> ceil_log2(row_bytes))]
        line = Array(read.data[low:low + 8 * block_bytes] for low in range(0, len(read.data), 8 * row_bytes))[offset]
        rows = [[Signal(8 * block_bytes, name=f"row_{r}_{half}", reset_less=True) for half in range(2)]
                for r in range(config.rows)]
        for half in range(2):
            with m.If(arriving & (into == half)):
                for r, halves in enumerate(rows):
                    with m.If(arriving_row == r):
                        m.d.sync += halves[half].eq(line)
                with m.If(arriving_last):
                    m.d.sync += [filled[half].eq(1), sizes[half].eq(arriving_size)]
        return rows
