"""Integer multiply-accumulate PE: one multiplier and one adder, shared by both dataflows."""

from amaranth import *

from hw.pe.base import PE

__all__ = ["MacPE"]


class MacPE(PE):
    """Two's complement multiply-accumulate; one product a cycle, latency 1.

    Weight-stationary: psum_out = psum + activation · stationary[select]; the other stationary register can be loaded at
    the same time. Output-stationary: the accumulator adds activation · weight; the sum of a tile's last step goes to the drain
    register as well, so that the next tile accumulates while the last one leaves through the psum chain. Sums wrap at psum_width.

    Parameters and members are those of `PE`. A build for one dataflow has only that one's registers.
    """

    def compute(self, m: Module) -> None:
        psum_held = Signal(signed(self.psum_width), reset_less=True)
        m.d.comb += self.psum_out.eq(psum_held)
        if self.dataflows == ("ws",):
            m.d.sync += psum_held.eq(self._sum(m, self._stationary_weight(m), self.psum))
            return
        control = self.control
        acc = Signal(signed(self.psum_width), reset_less=True)
        drain = Signal(signed(self.psum_width), reset_less=True)
        started = Mux(control.first, 0, acc)
        if "ws" in self.dataflows:
            weight = Mux(control.accumulate, self.weight, self._stationary_weight(m))
            total = self._sum(m, weight, Mux(control.accumulate, started, self.psum))
            m.d.sync += psum_held.eq(Mux(control.shift, drain, total))
        else:
            total = self._sum(m, self.weight, started)
            m.d.sync += psum_held.eq(drain)
        with m.If(control.accumulate):
            m.d.sync += acc.eq(total)
        with m.If(control.last):
            m.d.sync += drain.eq(total)
        with m.Elif(control.shift):
            m.d.sync += drain.eq(self.psum)

    def multiply(self, weight: Value) -> Value:
        """Return activation · weight, of activation_width + weight_width bits; a PE with another product overrides this."""
        return self.activation * weight

    def _stationary_weight(self, m: Module) -> Value:
        """Make the two stationary registers; return the one that multiplies in this slot."""
        stationary_0 = Signal(signed(self.weight_width), reset_less=True)
        stationary_1 = Signal(signed(self.weight_width), reset_less=True)
        with m.If(self.control.load & self.control.select):
            m.d.sync += stationary_0.eq(self.weight)
        with m.If(self.control.load & ~self.control.select):
            m.d.sync += stationary_1.eq(self.weight)
        return Mux(self.control.select, stationary_1, stationary_0)

    def _sum(self, m: Module, weight: Value, addend: Value) -> Value:
        """Return addend + activation · weight, `psum_width` wide."""
        product = Signal(signed(self.activation_width + self.weight_width))
        total = Signal(signed(self.psum_width))
        m.d.comb += [
            product.eq(self.multiply(weight)),
            total.eq(addend + product),
        ]
        return total
