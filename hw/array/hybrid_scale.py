"""The scale of a block: a rounded shift by its exponent, or a product with an unsigned integer."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.engines.hybrid import block_shapes, block_sum_width, mesh_psum_width

__all__ = ["BlockScale"]


class BlockScale(wiring.Component):
    """Turns a block's sum into what the accumulator adds; latency 2, initiation interval 1.

    A shift moves (sum << G) right by `scale`, which is how far the block's exponent lies below the largest one of its output
    channel, and rounds to nearest, halves up; from 32 on nothing is left: it is flushed to zero. A factor multiplies by `scale`.
    Plain psums pass.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    sum : In(signed), plain : In(signed)
        Sum of a block, and psum of a plain tile.
    scale : In(8), of_block : In(1), shifts : In(1)
        `of_block`: there is a scale.
    o : Out(signed(psum_width))

    Reference
    ---------
    Open Compute Project, Microscaling Formats v1.0, for blocks that share a power of two. Inferred: the aligner.
    """

    latency = 2

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        shapes = block_shapes(config)
        self.shifts_any, self.factors_any = any(s.shifts for s in shapes), not all(s.shifts for s in shapes)
        super().__init__({
            "sum": In(signed(block_sum_width(config))),
            "plain": In(signed(mesh_psum_width(config))),
            "scale": In(8),
            "of_block": In(1),
            "shifts": In(1),
            "o": Out(signed(config.psum_width)),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name."""
        config = self.config
        kinds = ("s" if self.shifts_any else "") + ("f" if self.factors_any else "")
        widths = f"s{block_sum_width(config)}_p{mesh_psum_width(config)}_g{config.guard_bits}_o{config.psum_width}"
        return f"block_scale_{kinds}_{widths}"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        total = Signal(signed(block_sum_width(config)), reset_less=True)
        plain = Signal(signed(mesh_psum_width(config)), reset_less=True)
        scale = Signal(8, reset_less=True)
        of_block, shifts = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [total.eq(self.sum), plain.eq(self.plain), scale.eq(self.scale), of_block.eq(self.of_block),
                     shifts.eq(self.shifts)]

        result = Signal(signed(config.psum_width))
        m.d.comb += result.eq(plain)
        with m.If(of_block):
            if self.factors_any:
                m.d.comb += result.eq(total * scale)
            if self.shifts_any:
                guarded = Signal(signed(block_sum_width(config) + config.guard_bits + 1))
                m.d.comb += guarded.eq(total << (config.guard_bits + 1))
                rounded = ((guarded >> scale[:5]) + 1) >> 1
                with m.If(shifts):
                    m.d.comb += result.eq(Mux(scale[5:].any(), 0, rounded))
        held = Signal(signed(config.psum_width), reset_less=True)
        m.d.sync += held.eq(result)
        m.d.comb += self.o.eq(held)
        return m
