"""What every block bench needs of Amaranth's simulator: one clock, a deadline, stream drivers and checkers, an AXI memory."""

import contextlib
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Value
from amaranth.sim import Simulator

__all__ = ["AxiMemory", "Bench", "check_stable", "check_stream", "get_all", "get_one", "put_all", "put_one", "simulate"]

Bench = Callable[[Any], Coroutine[Any, Any, None]]
"""A testbench of Amaranth's simulator: an async function of the simulator context."""

OKAY, SLVERR = 0, 2


def simulate(dut: Any, *testbenches: Bench, background: Iterable[Bench] = (), seed: int = 0, deadline: int = 20_000,
             vcd: str | None = None) -> int:
    """Run `testbenches` on `dut` until all have returned, and return how many cycles that took.

    Parameters
    ----------
    dut : Elaboratable
    testbenches : async functions of the simulator context
        Their end is the end of the simulation.
    background : async functions of the simulator context
        Models and checkers: they run for as long as there is a testbench.
    seed : int
        What the caller seeded its random generators with; only shown when the run fails.
    deadline : int
        Cycles after which the run fails with TimeoutError, so that a hang is a failure.
    vcd : str or None
        File to write waves to.
    """
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    cycles = 0

    async def watch(ctx: Any) -> None:
        nonlocal cycles
        for cycles in range(1, deadline + 1):  # noqa: B007 (the count is the result)
            await ctx.tick()
        raise TimeoutError(f"no end within {deadline} cycles")

    started: list[Coroutine[Any, Any, None]] = []

    def kept(bench: Bench) -> Bench:
        async def run(ctx: Any) -> None:
            started.append(bench(ctx))
            await started[-1]

        return run

    simulator.add_testbench(watch, background=True)
    for bench in background:
        simulator.add_testbench(kept(bench), background=True)
    for bench in testbenches:
        simulator.add_testbench(kept(bench))
    try:
        if vcd is None:
            simulator.run()
        else:
            with simulator.write_vcd(vcd):
                simulator.run()
    except BaseException as error:
        error.add_note(f"seed {seed}, cycle {cycles}")
        raise
    finally:
        # A bench that is left waiting in `until` or `repeat` complains when it is closed: here, rather than some time later.
        for coroutine in started:
            with contextlib.suppress(RuntimeError):
                coroutine.close()
    return cycles


async def put_one(ctx: Any, stream: Any, payload: Any) -> None:
    """Offer `payload` on `stream` until it is taken."""
    ctx.set(stream.payload, payload)
    ctx.set(stream.valid, 1)
    await ctx.tick().until(stream.ready)
    ctx.set(stream.valid, 0)


async def get_one(ctx: Any, stream: Any) -> Any:
    """Return the next payload of `stream`."""
    ctx.set(stream.ready, 1)
    (payload,) = await ctx.tick().sample(stream.payload).until(stream.valid)
    ctx.set(stream.ready, 0)
    return payload


def put_all(stream: Any, payloads: Sequence[Any], *, stall: float = 0.0, seed: int = 0) -> Bench:
    """Return a testbench that sends `payloads`, each after a pause with probability `stall` a cycle."""
    rng = random.Random(seed)

    async def bench(ctx: Any) -> None:
        for payload in payloads:
            while rng.random() < stall:
                await ctx.tick()
            await put_one(ctx, stream, payload)

    return bench


def get_all(stream: Any, count: int, into: list[Any], *, stall: float = 0.0, seed: int = 0) -> Bench:
    """Return a testbench that appends `count` payloads to `into`, with ready low with probability `stall` in each cycle."""
    rng = random.Random(seed)

    async def bench(ctx: Any) -> None:
        while len(into) < count:
            ready = rng.random() >= stall
            ctx.set(stream.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
            if ready and valid:
                into.append(payload)
        ctx.set(stream.ready, 0)

    return bench


def check_stable(valid: Any, ready: Any, *payload: Any, name: str = "stream") -> Bench:
    """Return a background testbench that fails when an offer is withdrawn or changed before it is taken."""

    async def bench(ctx: Any) -> None:
        held = None
        async for _, reset, v, r, *now in ctx.tick().sample(valid, ready, *(Value.cast(p) for p in payload)):
            if held is not None and not reset:
                assert v, f"{name}: valid fell before ready"
                assert now == held, f"{name}: payload changed before ready"
            held = now if v and not r and not reset else None

    return bench


def check_stream(stream: Any, name: str = "stream") -> Bench:
    """Return a background testbench that fails when `stream` breaks the stream rules."""
    return check_stable(stream.valid, stream.ready, stream.payload, name=name)


class AxiMemory:
    """A memory behind AXI4 read and write ports (`AxiReadPort`, `AxiWritePort` of a master), which also checks the master.

    Parameters
    ----------
    size : int
        Bytes; addresses wrap around at it.
    bus_width : int
        Data width in bits.
    latency : int
        Cycles from the AR handshake to the first R beat, and from the last W beat to B; at least 1.
    stall : float
        Probability in each cycle that a ready is low, or that a next beat or response is held back.
    burst_beats : int
        Longest burst that is allowed.
    seed : int
        Of the random stalls, and of the initial contents.

    Attributes
    ----------
    data : ndarray of uint8, shape (size,)
    faults : dict of int to int
        Beat address → response code to give instead of OKAY.
    reads, writes : list of (address, beats)
        Bursts as they were accepted.
    most_in_flight : int
        Largest number of read bursts that were in flight at once.
    read_beats, write_beats, bytes_written, stalls : int
        Counts.
    """

    def __init__(self, size: int, bus_width: int, *, latency: int = 8, stall: float = 0.0, burst_beats: int = 256,
                 seed: int = 0):
        self.data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
        self.beat_bytes = bus_width // 8
        self.latency, self.stall, self.burst_beats = latency, stall, burst_beats
        self.faults: dict[int, int] = {}
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        self.most_in_flight = self.read_beats = self.write_beats = self.bytes_written = self.stalls = 0
        self._rng = random.Random(seed)

    def _stalled(self) -> bool:
        stalled = self._rng.random() < self.stall
        self.stalls += stalled
        return stalled

    def _check_burst(self, addr: int, length: int, size: int, burst: int) -> int:
        beats = length + 1
        assert 1 << size == self.beat_bytes, "size must be the full width of the bus"
        assert burst == 1, "burst must be INCR"
        assert addr % self.beat_bytes == 0, "address must be aligned to the beat"
        assert beats <= self.burst_beats, f"burst of {beats} beats is too long"
        assert addr // 4096 == (addr + beats * self.beat_bytes - 1) // 4096, "burst crosses a 4-KiB boundary"
        return beats

    def _beat(self, addr: int) -> int:
        base = addr % len(self.data)
        return int.from_bytes(self.data[base:base + self.beat_bytes].tobytes(), "little")

    def read(self, port: Any) -> Bench:
        """Return the background testbench that serves `port`, bursts in order within an id and at random between ids."""

        async def bench(ctx: Any) -> None:
            queues: dict[int, deque[tuple[int, int, bool]]] = {}        # id → (cycle from which it may go, address, last)
            cycle, offered, ready = 0, None, False
            request = (port.arid, port.araddr, port.arlen, port.arsize, port.arburst)
            async for _, _, arvalid, rready, *fields in ctx.tick().sample(port.arvalid, port.rready, *request):
                if offered is not None and rready:
                    queues[offered].popleft()
                    self.read_beats += 1
                    offered = None
                if ready and arvalid:
                    tag, addr, *shape = fields
                    beats = self._check_burst(addr, *shape)
                    self.reads.append((addr, beats))
                    queue = queues.setdefault(tag, deque())
                    queue.extend((cycle + self.latency, addr + i * self.beat_bytes, i == beats - 1) for i in range(beats))
                    in_flight = sum(last for q in queues.values() for _, _, last in q)
                    self.most_in_flight = max(self.most_in_flight, in_flight)
                cycle += 1
                if offered is None:
                    due = [tag for tag, q in queues.items() if q and q[0][0] <= cycle]
                    if due and not self._stalled():
                        offered = self._rng.choice(due)
                        _, addr, last = queues[offered][0]
                        ctx.set(port.rid, offered)
                        ctx.set(port.rdata, self._beat(addr))
                        ctx.set(port.rresp, self.faults.get(addr, OKAY))
                        ctx.set(port.rlast, last)
                ctx.set(port.rvalid, offered is not None)
                ready = not self._stalled()
                ctx.set(port.arready, ready)

        return bench

    def write(self, port: Any) -> Bench:
        """Return the background testbench that serves `port`; data may come before or after its address."""

        async def bench(ctx: Any) -> None:
            bursts: deque[tuple[int, int, int]] = deque()               # (id, address, beats) that await data
            beats: deque[tuple[int, int, int]] = deque()                # (data, strobes, last) that await an address
            responses: deque[tuple[int, int, int]] = deque()            # (cycle from which it may go, id, response)
            cycle, done, worst = 0, 0, OKAY
            aw_ready = w_ready = offered = False
            address = (port.awid, port.awaddr, port.awlen, port.awsize, port.awburst)
            beat = (port.wdata, port.wstrb, port.wlast)
            sampled = (port.awvalid, port.wvalid, port.bready, *address, *beat)
            async for _, _, awvalid, wvalid, bready, *fields in ctx.tick().sample(*sampled):
                if offered and bready:
                    responses.popleft()
                    offered = False
                if aw_ready and awvalid:
                    tag, addr, *shape = fields[:5]
                    bursts.append((tag, addr, self._check_burst(addr, *shape)))
                    self.writes.append((addr, bursts[-1][2]))
                if w_ready and wvalid:
                    beats.append((fields[5], fields[6], fields[7]))
                    self.write_beats += 1
                while bursts and beats:
                    (tag, addr, count), (value, strobes, last) = bursts[0], beats.popleft()
                    assert last == (done == count - 1), f"WLAST is {last} in beat {done} of {count}"
                    addr += done * self.beat_bytes
                    self._store(addr, value, strobes)
                    worst = max(worst, self.faults.get(addr, OKAY))
                    done += 1
                    if last:
                        responses.append((cycle + self.latency, tag, worst))
                        bursts.popleft()
                        done, worst = 0, OKAY
                cycle += 1
                if not offered and responses and responses[0][0] <= cycle and not self._stalled():
                    offered = True
                    ctx.set(port.bid, responses[0][1])
                    ctx.set(port.bresp, responses[0][2])
                ctx.set(port.bvalid, offered)
                aw_ready, w_ready = not self._stalled(), not self._stalled()
                ctx.set(port.awready, aw_ready)
                ctx.set(port.wready, w_ready)

        return bench

    def _store(self, addr: int, value: int, strobes: int) -> None:
        for lane, byte in enumerate(value.to_bytes(self.beat_bytes, "little")):
            if strobes >> lane & 1:
                self.data[(addr + lane) % len(self.data)] = byte
                self.bytes_written += 1

    @staticmethod
    def check_read(port: Any) -> Bench:
        """Return the background testbench that fails when the master changes an AR that was not taken."""
        return check_stable(port.arvalid, port.arready, port.arid, port.araddr, port.arlen, port.arsize, port.arburst, name="AR")

    @staticmethod
    def check_write(port: Any) -> tuple[Bench, Bench]:
        """Return the background testbenches that fail when the master changes an AW or a W beat that was not taken."""
        address = (port.awid, port.awaddr, port.awlen, port.awsize, port.awburst)
        return (check_stable(port.awvalid, port.awready, *address, name="AW"),
                check_stable(port.wvalid, port.wready, port.wdata, port.wstrb, port.wlast, name="W"))
