"""Semaphores: the dependency tokens that order commands of different queues."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.isa import SEMAPHORE_MAX, SEMAPHORES

__all__ = ["AcquirePort", "Semaphores"]


class AcquirePort(wiring.Signature):
    """A request to take one from each semaphore of a mask, all at once (directions of the requester).

    Members
    -------
    valid : Out(1), mask : Out(SEMAPHORES)
        The request; it may be withdrawn.
    grant : In(1)
        The semaphores are taken in this cycle. Never high without `valid`.
    """

    def __init__(self) -> None:
        super().__init__({"valid": Out(1), "mask": Out(SEMAPHORES), "grant": In(1)})


class Semaphores(wiring.Component):
    """Counting semaphores of 0 to SEMAPHORE_MAX.

    At most one request is granted in a cycle: the lowest-numbered one whose semaphores are all above zero. Signals of all ports
    are added in the cycle in which they come, and can be taken from the next cycle on. A count that would pass SEMAPHORE_MAX
    stays as it is and raises `overflow` for the next cycle. Of two queues that wait for the same semaphore either may get it, so
    a program gives each semaphore one consumer.

    Parameters
    ----------
    ports : int
        Requesters and signallers, one of each per port.

    Members
    -------
    clear : In(1)
        Set all counts to zero.
    acquire : array of In(AcquirePort)
    signal : array of In(SEMAPHORES)
        Mask of the semaphores to add one to.
    counts : Out(SEMAPHORES × 8 bits)
    overflow : Out(1), overflow_index : Out(semaphore number), overflow_port : Out(port number)
        A count would have passed its maximum in the cycle before, the lowest such, and the lowest port that signalled it.
    """

    def __init__(self, ports: int):
        self._ports = ports
        super().__init__({
            "clear": In(1),
            "acquire": In(AcquirePort()).array(ports),
            "signal": In(SEMAPHORES).array(ports),
            "counts": Out(data.ArrayLayout(range(SEMAPHORE_MAX + 1), SEMAPHORES)),
            "overflow": Out(1),
            "overflow_index": Out(range(SEMAPHORES)),
            "overflow_port": Out(range(ports)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        available, taken, over = Signal(SEMAPHORES), Signal(SEMAPHORES), Signal(SEMAPHORES)
        m.d.comb += available.eq(Cat(count != 0 for count in self.counts))

        granted: Value = Const(0, 1)
        masks: Value = Const(0, SEMAPHORES)
        for port in self.acquire:
            m.d.comb += port.grant.eq(port.valid & ~granted & ~(port.mask & ~available).any())
            granted |= port.grant
            masks |= Mux(port.grant, port.mask, 0)
        m.d.comb += taken.eq(masks)

        for i, count in enumerate(self.counts):
            following = Signal(range(SEMAPHORE_MAX + self._ports + 1), name=f"following_{i}")
            signals = sum((mask[i] for mask in self.signal), start=Const(0))
            m.d.comb += [following.eq(count + signals - taken[i]), over[i].eq(following > SEMAPHORE_MAX)]
            with m.If(self.clear):
                m.d.sync += count.eq(0)
            with m.Elif(~over[i]):
                m.d.sync += count.eq(following)

        overflowed = Signal(SEMAPHORES)
        overflowing = Signal(self._ports)                   # ports that signalled one of them
        m.d.sync += [
            overflowed.eq(Mux(self.clear, 0, over)),
            overflowing.eq(Cat((mask & over).any() for mask in self.signal)),
        ]
        m.d.comb += self.overflow.eq(overflowed.any())
        for i in reversed(range(SEMAPHORES)):
            with m.If(overflowed[i]):
                m.d.comb += self.overflow_index.eq(i)
        for i in reversed(range(self._ports)):
            with m.If(overflowing[i]):
                m.d.comb += self.overflow_port.eq(i)
        return m
