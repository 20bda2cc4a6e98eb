"""The host side of the benches: an AXI4-Lite master with random skews and pauses."""

import random
from typing import Any

from hw.regs import register

__all__ = ["Host", "lite_channels"]


def lite_channels(bus: Any) -> dict[str, tuple[Any, ...]]:
    """Return (valid, ready, payload…) of each channel that the slave drives."""
    return {"B": (bus.bvalid, bus.bready, bus.bresp), "R": (bus.rvalid, bus.rready, bus.rdata, bus.rresp)}


class Host:
    """Reads and writes registers one after the other.

    Parameters
    ----------
    bus : AxiLitePort
        Of the slave.
    pause : float
        Probability in each cycle that a channel waits.
    seed : int

    Attributes
    ----------
    first : dict of str to int
        How often AW came before W, W before AW, or both at once.
    """

    def __init__(self, bus: Any, *, pause: float = 0.0, seed: int = 0):
        self.bus, self.pause = bus, pause
        self.first = {"aw": 0, "w": 0, "both": 0}
        self._rng = random.Random(seed)

    def _go(self) -> bool:
        return self._rng.random() >= self.pause

    async def write(self, ctx: Any, addr: int | str, value: int, strobes: int = 0xF) -> int:
        """Write a register, by name or byte address, and return the response."""
        bus = self.bus
        addr = register(addr).offset if isinstance(addr, str) else addr
        left = {"aw", "w"}
        offered: set[str] = set()
        ctx.set(bus.awaddr, addr)
        ctx.set(bus.wdata, value)
        ctx.set(bus.wstrb, strobes)
        while left:
            begun = {channel for channel in left - offered if self._go()}
            if begun and not offered and len(left) == 2:
                self.first["both" if len(begun) == 2 else min(begun)] += 1
            offered |= begun
            ctx.set(bus.awvalid, "aw" in left & offered)
            ctx.set(bus.wvalid, "w" in left & offered)
            _, _, awready, wready = await ctx.tick().sample(bus.awready, bus.wready)
            left -= {channel for channel, ready in (("aw", awready), ("w", wready)) if ready and channel in offered}
        ctx.set(bus.awvalid, 0)
        ctx.set(bus.wvalid, 0)
        return (await self._response(ctx, bus.bvalid, bus.bready, bus.bresp))[0]

    async def read(self, ctx: Any, addr: int | str) -> int:
        """Read a register that must answer OKAY."""
        value, response = await self.try_read(ctx, addr)
        assert response == 0, f"read of {addr} answers {response}"
        return value

    async def try_read(self, ctx: Any, addr: int | str) -> tuple[int, int]:
        """Read a register and return value and response."""
        bus = self.bus
        while not self._go():
            await ctx.tick()
        ctx.set(bus.araddr, register(addr).offset if isinstance(addr, str) else addr)
        ctx.set(bus.arvalid, 1)
        await ctx.tick().until(bus.arready)
        ctx.set(bus.arvalid, 0)
        value, response = await self._response(ctx, bus.rvalid, bus.rready, bus.rdata, bus.rresp)
        return value, response

    async def _response(self, ctx: Any, valid: Any, ready: Any, *payload: Any) -> list[int]:
        while True:
            go = self._go()
            ctx.set(ready, go)
            _, _, is_valid, *values = await ctx.tick().sample(valid, *payload)
            if go and is_valid:
                ctx.set(ready, 0)
                return values
