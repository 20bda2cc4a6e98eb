"""UART receiver: eight data bits, no parity, one stop bit."""

from typing import Any

from amaranth import *
from amaranth.lib import cdc, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError

__all__ = ["MIN_DIVISOR", "UartReceiver"]

MIN_DIVISOR = 4                 # below, the middle of a bit is not found reliably after the synchronizer


class UartReceiver(wiring.Component):
    """Bytes from a line: a start bit is looked at again in its middle, and each bit in its own middle.

    A byte whose stop bit is low is dropped. A byte that comes while the last one still waits is lost: the reader must keep up,
    with ten bit times for each byte. A byte is offered 9.5 bit times and 4 cycles after its start bit came.

    Parameters
    ----------
    divisor : int
        Clock cycles of one bit, at least 4.

    Members
    -------
    rx : In(1)
        The line, high when idle; asynchronous.
    o : Out(stream of 8)

    Raises
    ------
    ConfigError
        If the divisor is too small.
    """

    def __init__(self, divisor: int):
        if divisor < MIN_DIVISOR:
            raise ConfigError(f"UartReceiver.divisor must be at least {MIN_DIVISOR} cycles, not {divisor!r}")
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = cdc.FFSynchronizer(self.rx, line, init=1)

        timer = Signal(range(self.divisor))
        bits = Signal(4)                                # still to come: start, eight of data, stop
        shifted = Signal(8, reset_less=True)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(bits == 0):
            m.d.sync += timer.eq(self.divisor // 2 - 1)
            with m.If(~line):
                m.d.sync += bits.eq(10)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.divisor - 1), bits.eq(bits - 1)]
            with m.If((bits == 10) & line):             # a spike, not a start bit
                m.d.sync += bits.eq(0)
            with m.If(bits == 1):
                with m.If(line & (~self.o.valid | self.o.ready)):
                    m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(shifted)]
            with m.Else():
                m.d.sync += shifted.eq(Cat(shifted[1:], line))
        return m
