"""A PE that computes modulo 2^b − 1: beside others, it knows what their sums must be."""

from typing import Any

from amaranth import *
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError
from hw.pe.base import pe_control_layout
from hw.protect.residue import product_terms, residue_sum

__all__ = ["ResiduePE"]


class ResiduePE(wiring.Component):
    """Does what `MacPE` does, modulo 2^bits − 1, slot by slot: the same registers, the same control, the same cycles.

    As the last PE of a row it is a checksum: fed with the sum of the row's weights, its psum is the sum of their psums. Beside a
    PE, fed with the residues of its operands, its psum is the residue of that PE's. A residue has two zeros, 0 and 2^bits − 1.

    A product is a sum of the weight's rotations, one for each bit of the activation; the carry of every adder comes in again at
    the other end. So the adders are as wide as the residue.

    Latency 1, initiation interval 1.

    Parameters
    ----------
    activation : ShapeLike
        Shape of an activation: signed, or an unsigned residue.
    bits : int
        b of the modulus 2^b − 1, at least 2.
    dataflows : tuple of str
        Any of "ws" and "os", as in `hw.pe.base`.

    Members
    -------
    activation, weight, psum, control : In
    weight_out, psum_out : Out(bits)
        Downwards, one cycle later.

    Raises
    ------
    ConfigError
        If there are fewer than 2 bits.
    """

    def __init__(self, *, activation: ShapeLike, bits: int, dataflows: tuple[str, ...]):
        if bits < 2:
            raise ConfigError(f"ResiduePE.bits must be at least 2, not {bits!r}")
        self.bits = bits
        self.dataflows = dataflows
        self.shape = Shape.cast(activation)
        super().__init__({
            "activation": In(activation), "weight": In(bits), "psum": In(bits), "control": In(pe_control_layout(dataflows)),
            "weight_out": Out(bits), "psum_out": Out(bits),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name."""
        return f"pe_residue_{'s' if self.shape.signed else 'u'}{self.shape.width}_b{self.bits}_{''.join(self.dataflows)}"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        control = self.control
        weight_held = Signal(self.bits, reset_less=True)
        psum_held = Signal(self.bits, reset_less=True)
        m.d.sync += weight_held.eq(self.weight)
        m.d.comb += [self.weight_out.eq(weight_held), self.psum_out.eq(psum_held)]

        weight, addend = self.weight, self.psum
        acc, drain = Signal(self.bits, reset_less=True), Signal(self.bits, reset_less=True)
        if "ws" in self.dataflows:
            weight = self._stationary_weight(m)
        if "os" in self.dataflows:
            started = Mux(control.first, 0, acc)
            weight = Mux(control.accumulate, self.weight, weight) if "ws" in self.dataflows else weight
            addend = Mux(control.accumulate, started, self.psum) if "ws" in self.dataflows else started
        factor, term = Signal(self.bits), Signal(self.bits)
        m.d.comb += [factor.eq(weight), term.eq(addend)]
        terms = product_terms(self.activation, factor, signed=self.shape.signed)
        total = residue_sum(m, [*terms, term], self.bits)

        if "os" not in self.dataflows:
            m.d.sync += psum_held.eq(total)
            return m
        m.d.sync += psum_held.eq(Mux(control.shift, drain, total) if "ws" in self.dataflows else drain)
        with m.If(control.accumulate):
            m.d.sync += acc.eq(total)
        with m.If(control.last):
            m.d.sync += drain.eq(total)
        with m.Elif(control.shift):
            m.d.sync += drain.eq(self.psum)
        return m

    def _stationary_weight(self, m: Module) -> Value:
        """Make the two stationary registers; return the one that multiplies in this slot."""
        stationary_0 = Signal(self.bits, reset_less=True)
        stationary_1 = Signal(self.bits, reset_less=True)
        with m.If(self.control.load & self.control.select):
            m.d.sync += stationary_0.eq(self.weight)
        with m.If(self.control.load & ~self.control.select):
            m.d.sync += stationary_1.eq(self.weight)
        return Mux(self.control.select, stationary_1, stationary_0)
