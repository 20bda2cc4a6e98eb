# amaranth: UnusedElaboratable=no
"""The host bridge against its golden model: random requests, damaged ones, garbage, silence, pauses on every port."""

import random
import re

import numpy as np
import pytest

from hw.bridge.host import HostBridge
from hw.bridge.protocol import COMMANDS, MAX_DATA, SYNC, Command, Status
from hw.errors import ConfigError
from hw.regs import REGISTER_SPACE
from sw.bridge import encode_request, find_reply
from sw.golden.bridge.host import HostBridgeModel
from tb.sim import check_stable, check_stream, simulate

MEMORY, TIMEOUT, DIGEST = 1024, 60, "0123456789ab"
ILLEGAL = 0x3F0                 # a register that answers SLVERR
PARAMETERS = {"memory_bytes": MEMORY, "clock_hz": 25_000_000, "config_digest": DIGEST, "timeout": TIMEOUT}


class Registers:
    """Registers that remember, and count what is written."""

    def __init__(self):
        self.words = {offset: offset * 0x01020304 & 0xFFFF_FFFF for offset in range(0, REGISTER_SPACE, 4)}
        self.written: list[tuple[int, int]] = []

    def read(self, offset):
        return self.words[offset], 2 if offset == ILLEGAL else 0

    def write(self, offset, value):
        if offset == ILLEGAL:
            return 2
        self.words[offset] = value
        self.written.append((offset, value))
        return 0


class Bench:
    """The bridge with models of memory and registers, and pauses with probability `stall` everywhere."""

    def __init__(self, *, stall=0.0, seed=0):
        self.dut = HostBridge(**PARAMETERS)
        self.rng, self.stall, self.seed = random.Random(seed), stall, seed
        contents = np.random.default_rng(seed).integers(0, 256, MEMORY, dtype=np.uint8)
        self.memory, self.registers = contents.copy(), Registers()
        self.golden_memory, self.golden_registers = contents.copy(), Registers()
        self.golden = HostBridgeModel(self.golden_memory, self.golden_registers.read, self.golden_registers.write,
                                      clock_hz=25_000_000, config_digest=DIGEST)
        self.got: list[int] = []
        self.reset_cycles = 0

    def go(self):
        return self.rng.random() >= self.stall

    async def serve_memory(self, ctx):
        port = self.dut.memory
        while True:
            ready = self.go()
            ctx.set(port.ready, ready)
            _, _, valid, write, addr, value = await ctx.tick().sample(port.valid, port.write, port.addr, port.write_data)
            ctx.set(port.read_data, self.rng.randrange(256))
            if valid and ready:
                if write:
                    self.memory[addr] = value
                else:
                    ctx.set(port.read_data, int(self.memory[addr]))

    async def serve_writes(self, ctx):
        bus = self.dut.registers
        while True:
            taken = {}
            channels = {"aw": (bus.awready, bus.awvalid, bus.awaddr), "w": (bus.wready, bus.wvalid, bus.wdata)}
            while len(taken) < 2:
                ready = {name: name not in taken and self.go() for name in channels}
                for name, (line, _, _) in channels.items():
                    ctx.set(line, ready[name])
                values = await ctx.tick().sample(*(signal for _, v, p in channels.values() for signal in (v, p)))
                for i, name in enumerate(channels):
                    if ready[name] and values[2 + 2 * i]:
                        taken[name] = values[3 + 2 * i]
            for line, _, _ in channels.values():
                ctx.set(line, 0)
            while not self.go():
                await ctx.tick()
            ctx.set(bus.bresp, self.registers.write(taken["aw"], taken["w"]))
            ctx.set(bus.bvalid, 1)
            await ctx.tick().until(bus.bready)
            ctx.set(bus.bvalid, 0)

    async def serve_reads(self, ctx):
        bus = self.dut.registers
        while True:
            ready = self.go()
            ctx.set(bus.arready, ready)
            _, _, valid, addr = await ctx.tick().sample(bus.arvalid, bus.araddr)
            ctx.set(bus.arready, 0)
            if ready and valid:
                while not self.go():
                    await ctx.tick()
                value, response = self.registers.read(addr)
                ctx.set(bus.rdata, value)
                ctx.set(bus.rresp, response)
                ctx.set(bus.rvalid, 1)
                await ctx.tick().until(bus.rready)
                ctx.set(bus.rvalid, 0)

    async def listen(self, ctx):
        port = self.dut.o
        while True:
            ready = self.go()
            ctx.set(port.ready, ready)
            _, _, valid, byte = await ctx.tick().sample(port.valid, port.payload)
            if ready and valid:
                self.got.append(byte)

    async def watch_reset(self, ctx):
        async for _, _, reset in ctx.tick().sample(self.dut.reset):
            self.reset_cycles += reset

    def run(self, script):
        """Send each piece of `script`, wait for the golden reply to it, and compare; None is silence."""
        port, want = self.dut.i, b""

        async def drive(ctx):
            nonlocal want
            for piece in script:
                if piece is None:
                    self.golden.silence()
                    await ctx.tick().repeat(TIMEOUT + 3)
                    continue
                want += self.golden.feed(piece)
                for byte in piece:
                    while not self.go():
                        await ctx.tick()
                    ctx.set(port.payload, byte)
                    ctx.set(port.valid, 1)
                    await ctx.tick().until(port.ready)
                    ctx.set(port.valid, 0)
                waited = 0
                while len(self.got) < len(want):
                    await ctx.tick()
                    waited += 1
                    assert waited < 20_000, f"no answer to {piece.hex()}"
                assert bytes(self.got) == want
                assert np.array_equal(self.memory, self.golden_memory)
                assert self.registers.written == self.golden_registers.written
            await ctx.tick().repeat(40)
            assert bytes(self.got) == want

        bus = self.dut.registers
        simulate(self.dut, drive, seed=self.seed, deadline=200_000, background=[
            self.serve_memory, self.serve_writes, self.serve_reads, self.listen, self.watch_reset, check_stream(self.dut.o),
            check_stable(bus.awvalid, bus.awready, bus.awaddr, name="AW"),
            check_stable(bus.wvalid, bus.wready, bus.wdata, name="W"),
            check_stable(bus.arvalid, bus.arready, bus.araddr, name="AR")])
        return want

    def statuses(self, want):
        found = []
        while want:
            packet, done, _ = find_reply(want)
            found.append(Status(packet.status))
            want = want[done:]
        return found


def random_request(rng: random.Random, tag: int) -> bytes:
    info = COMMANDS[rng.choice(list(Command))]
    length = info.length if info.length is not None else info.unit * rng.choice([1, 1, 2, 3, 5, 8])
    size = {"memory": MEMORY, "registers": ILLEGAL, "none": 1}[info.space]
    addr = rng.randrange(0, size - length + 1, info.unit) if info.space != "none" else rng.randrange(1 << 32)
    data = rng.randbytes(length) if info.to_bridge else b""
    if info.command == Command.CLEAR_MEMORY:
        data = rng.randrange(40).to_bytes(4, "little")
    return encode_request(info.command, tag=tag, addr=addr, length=length, data=data)


@pytest.mark.parametrize(("stall", "seed"), [(0.0, 0), (0.5, 1)])
def test_random_requests_with_noise_between_them(stall, seed):
    bench = Bench(stall=stall, seed=seed)
    rng, script = random.Random(seed), []
    for tag in range(40):
        packet = bytearray(random_request(rng, tag))
        kind = rng.randrange(6)
        if kind == 0:                   # noise, which may hold a sync byte; then a pause
            script += [rng.randbytes(rng.randrange(1, 12)), None]
        elif kind == 1:                 # a damaged bit, anywhere
            packet[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)
            script += [bytes(packet), None]
            continue
        elif kind == 2:                 # cut short
            script += [bytes(packet[:rng.randrange(1, len(packet))]), None]
            continue
        script.append(bytes(packet))
    statuses = bench.statuses(bench.run(script))
    assert statuses.count(Status.OK) >= 15
    assert bench.reset_cycles == 16 * bench.golden.resets > 0


@pytest.mark.parametrize(("packet", "status"), [
    (encode_request(0x77, tag=1), Status.BAD_COMMAND),
    (encode_request(0, tag=1), Status.BAD_COMMAND),
    (encode_request(Command.READ_MEMORY, tag=1, length=0), Status.BAD_LENGTH),
    (encode_request(Command.READ_MEMORY, tag=1, length=MAX_DATA + 1), Status.BAD_LENGTH),
    (encode_request(Command.READ_REGISTERS, tag=1, length=6), Status.BAD_LENGTH),
    (encode_request(Command.INFO, tag=1, length=17), Status.BAD_LENGTH),
    (encode_request(Command.RESET, tag=1, length=1), Status.BAD_LENGTH),
    (encode_request(Command.READ_MEMORY, tag=1, addr=MEMORY - 3, length=4), Status.BAD_ADDRESS),
    (encode_request(Command.READ_MEMORY, tag=1, addr=0xFFFF_FFFF, length=4), Status.BAD_ADDRESS),
    (encode_request(Command.READ_REGISTERS, tag=1, addr=2, length=4), Status.BAD_ADDRESS),
    (encode_request(Command.READ_REGISTERS, tag=1, addr=REGISTER_SPACE - 4, length=8), Status.BAD_ADDRESS),
    (encode_request(Command.CLEAR_MEMORY, tag=1, addr=MEMORY + 1, data=b"\0\0\0\0"), Status.BAD_ADDRESS),
    (encode_request(Command.CLEAR_MEMORY, tag=1, addr=MEMORY - 2, data=b"\3\0\0\0"), Status.BAD_ADDRESS),
    (encode_request(Command.READ_REGISTERS, tag=1, addr=ILLEGAL - 4, length=8), Status.BUS_ERROR),
    (encode_request(Command.WRITE_REGISTERS, tag=1, addr=ILLEGAL - 4, data=bytes(8)), Status.BUS_ERROR),
    (encode_request(Command.WRITE_MEMORY, tag=1, addr=8, data=b"abc")[:-1] + b"\0", Status.BAD_CHECKSUM),
])
def test_what_is_wrong_is_said_and_the_next_request_is_served(packet, status):
    bench = Bench()
    # A rejected header leaves the rest of its packet to be skipped; the pause ends what may look like a packet in it.
    want = bench.run([packet, None, encode_request(Command.READ_MEMORY, tag=2, addr=MEMORY - 4, length=4)])
    assert bench.statuses(want) == [status, Status.OK]


def test_the_largest_packets():
    bench = Bench()
    data = random.Random(5).randbytes(MAX_DATA)
    want = bench.run([encode_request(Command.WRITE_MEMORY, tag=1, addr=MEMORY - MAX_DATA, data=data),
                      encode_request(Command.READ_MEMORY, tag=2, addr=MEMORY - MAX_DATA, length=MAX_DATA)])
    assert data in want
    assert bench.memory[MEMORY - MAX_DATA:].tobytes() == data


def test_registers_are_written_once_for_each_tag_in_a_row():
    bench = Bench()
    write = {tag: encode_request(Command.WRITE_REGISTERS, tag=tag, addr=8, data=b"\1\0\0\0") for tag in (1, 2)}
    damaged = bytearray(encode_request(Command.WRITE_REGISTERS, tag=9, addr=8, data=b"\7\0\0\0"))
    damaged[-1] ^= 1
    info = encode_request(Command.INFO, tag=7, length=18)
    bench.run([write[1], write[1], bytes(damaged), write[1], write[2], write[1], info, write[1]])
    assert [value for _, value in bench.registers.written] == [1] * 4


def test_a_request_that_stops_is_forgotten():
    bench = Bench()
    read = encode_request(Command.READ_MEMORY, tag=3, addr=0, length=2)
    want = bench.run([read[:4], None, read, bytes([SYNC]), None, read])
    assert bench.statuses(want) == [Status.OK, Status.OK]


@pytest.mark.parametrize(("change", "text"), [
    ({"memory_bytes": 8}, "HostBridge.memory_bytes must be between 16 and 2147483648, not 8"),
    ({"clock_hz": 0}, "HostBridge.clock_hz must be between 1 and 4294967295, not 0"),
    ({"timeout": 15}, "HostBridge.timeout must be between 16 and 4294967295, not 15"),
])
def test_impossible_parameters_are_refused(change, text):
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        HostBridge(**{**PARAMETERS, **change})
