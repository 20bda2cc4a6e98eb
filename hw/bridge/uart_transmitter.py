"""UART transmitter: eight data bits, no parity, one stop bit."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError

__all__ = ["UartTransmitter"]


class UartTransmitter(wiring.Component):
    """Bytes to a line, one in ten bit times; the start bit begins in the cycle after a byte was taken.

    Parameters
    ----------
    divisor : int
        Clock cycles of one bit, at least 1.

    Members
    -------
    i : In(stream of 8)
    tx : Out(1)
        The line, high when idle.

    Raises
    ------
    ConfigError
        If the divisor is too small.
    """

    latency = 1

    def __init__(self, divisor: int):
        if divisor < 1:
            raise ConfigError(f"UartTransmitter.divisor must be at least 1 cycle, not {divisor!r}")
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        timer = Signal(range(self.divisor))
        bits = Signal(4)                                # still to send, the current one included
        shifted = Signal(9, init=(1 << 9) - 1)
        last = Signal()
        m.d.comb += [
            last.eq((bits <= 1) & (timer == 0)),
            self.i.ready.eq(last),
            self.tx.eq(shifted[0]),
        ]
        with m.If(last):
            m.d.sync += bits.eq(0)
            with m.If(self.i.valid):
                m.d.sync += [shifted.eq(Cat(0, self.i.payload)), bits.eq(10), timer.eq(self.divisor - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.divisor - 1), bits.eq(bits - 1), shifted.eq(Cat(shifted[1:], 1))]
        return m
