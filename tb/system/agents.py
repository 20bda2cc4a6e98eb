"""Agents of the system environment: registers (AXI4-Lite), memory (AXI4), and the passive monitor of what is written."""

import itertools
from collections.abc import Iterator

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave
from pyuvm import uvm_agent, uvm_analysis_port, uvm_component, uvm_driver, uvm_monitor, uvm_sequence_item, uvm_sequencer

from hw.isa import ErrorCause
from hw.regs import register
from sw.program import Program
from tb.system.checker import Observation

__all__ = ["CsrAgent", "Dram", "MemoryAgent", "RunItem", "WriteMonitor"]

STALLS = {"none": 0.0, "light": 0.2, "heavy": 0.6}


class RunItem(uvm_sequence_item):
    """One run: a program, its arguments, how memory behaves meanwhile, and what kind of stimulus it is."""

    def __init__(self, name: str, program: Program, *, args: dict[str, int] | None = None, stall: str = "none", seed: int = 0,
                 faulty: range | None = None, tags: dict[str, object] | None = None):
        super().__init__(name)
        self.program, self.args = program, args or {}
        self.stall, self.seed, self.faulty = stall, seed, faulty
        self.tags = tags or {}


class Dram:
    """The memory behind the AXI slave; accesses that touch `faulty` or leave it raise, which the slave answers with SLVERR."""

    def __init__(self, size: int):
        self.data = np.zeros(size, dtype=np.uint8)
        self.faulty = range(0)

    def _check(self, addr: int, length: int) -> None:
        if addr + length > len(self.data) or max(addr, self.faulty.start) < min(addr + length, self.faulty.stop):
            raise IndexError(f"no memory at {addr:#x}")

    async def read(self, addr: int, length: int) -> bytes:
        """Return bytes, as cocotbext-axi's slave asks for them."""
        self._check(addr, length)
        return self.data[addr:addr + length].tobytes()

    async def write(self, addr: int, data: bytes) -> None:
        """Store bytes, as cocotbext-axi's slave hands them over."""
        self._check(addr, len(data))
        self.data[addr:addr + len(data)] = np.frombuffer(data, dtype=np.uint8)


class MemoryAgent(uvm_component):
    """Answers the accelerator's AXI4 master, with random stalls on each of the five channels."""

    def build_phase(self) -> None:
        """Attach the slave to the ports `m_axi_*`."""
        dut = cocotb.top
        self.dram = Dram(1 << 18)
        self.slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, target=self.dram)

    def configure(self, item: RunItem) -> None:
        """Take stalls and faults of a run."""
        self.dram.faulty = item.faulty or range(0)
        channels = (self.slave.write_if.aw_channel, self.slave.write_if.w_channel, self.slave.write_if.b_channel,
                    self.slave.read_if.ar_channel, self.slave.read_if.r_channel)
        for index, channel in enumerate(channels):
            channel.set_pause_generator(_pauses(STALLS[item.stall], [item.seed, index]))


def _pauses(probability: float, seed: list[int]) -> Iterator[bool]:
    if not probability:
        return itertools.repeat(False)
    pattern = np.random.default_rng(seed).random(997) < probability
    return itertools.cycle(pattern.tolist())


class WriteMonitor(uvm_monitor):
    """Watches the AXI write channels, and nothing else; publishes (byte address, value) for each byte strobed."""

    def build_phase(self) -> None:
        """Make the analysis port."""
        self.port = uvm_analysis_port("port", self)

    async def run_phase(self) -> None:
        """Pair data beats with addresses in order."""
        dut = cocotb.top
        beat = len(dut.m_axi_wdata) // 8
        addresses: list[list[int]] = []
        beats: list[tuple[int, int]] = []
        while True:
            await RisingEdge(dut.clk)
            if dut.m_axi_awvalid.value == 1 and dut.m_axi_awready.value == 1:
                addresses.append([int(dut.m_axi_awaddr.value), int(dut.m_axi_awlen.value) + 1])
            if dut.m_axi_wvalid.value == 1 and dut.m_axi_wready.value == 1:
                beats.append((int(dut.m_axi_wdata.value), int(dut.m_axi_wstrb.value)))
            while beats and addresses:
                data, strobe = beats.pop(0)
                addr, left = addresses[0]
                for lane in range(beat):
                    if strobe >> lane & 1:
                        self.port.write((addr + lane, data >> 8 * lane & 0xFF))
                addresses[0] = [addr + beat, left - 1]
                if left == 1:
                    addresses.pop(0)


class CsrDriver(uvm_driver):
    """Runs items: program into memory, registers, doorbell, interrupt, and what the registers say in the end."""

    TIMEOUT = 400_000       # cycles

    def build_phase(self) -> None:
        """Attach the master to the ports `s_axil_*`."""
        dut = cocotb.top
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.items = uvm_analysis_port("items", self)
        self.started = uvm_analysis_port("started", self)
        self.finished = uvm_analysis_port("finished", self)
        self.memory: MemoryAgent | None = None

    async def read(self, name: str) -> int:
        """Return a register."""
        return int.from_bytes((await self.master.read(register(name).offset, 4)).data, "little")

    async def write(self, name: str, value: int) -> None:
        """Set a register."""
        await self.master.write(register(name).offset, value.to_bytes(4, "little"))

    async def run_phase(self) -> None:
        """Reset, then one item after the other."""
        dut = cocotb.top
        dut.rst.value = 1
        for _ in range(4):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
        while True:
            item = await self.seq_item_port.get_next_item()
            await self._run(item)
            self.seq_item_port.item_done()

    async def _run(self, item: RunItem) -> None:
        program = item.program
        self.memory.configure(item)
        memory = self.memory.dram.data
        for region in program.regions:
            if region.data is not None:
                memory[region.addr:region.addr + region.size] = region.data
        code = program.code.view(np.uint8)
        memory[program.code_addr:program.code_addr + len(code)] = code
        self.items.write(item)
        self.started.write((item, memory.copy()))
        await self.write("PROGRAM_ADDR", program.code_addr)
        await self.write("PROGRAM_LENGTH", len(program.code))
        await self.write("IRQ_ENABLE", 3)
        for name, index in program.arguments.items():
            await self.write(f"ARG{index}", item.args[name])
        await self.write("CONTROL", 1)
        dut = cocotb.top
        for _ in range(self.TIMEOUT):
            await RisingEdge(dut.clk)
            if dut.irq.value == 1:
                break
        status, error, pc = await self.read("STATUS"), await self.read("ERROR"), await self.read("ERROR_PC")
        await self.write("IRQ_STATUS", 3)
        failed = bool(status & 4)
        self.finished.write((item, Observation(
            done=bool(status & 2), cause=ErrorCause(error & 0xFF) if failed else ErrorCause.NONE, pc=pc if failed else None)))


class CsrAgent(uvm_agent):
    """Sequencer and driver of the registers."""

    def build_phase(self) -> None:
        """Make both."""
        super().build_phase()
        self.sequencer = uvm_sequencer("sequencer", self)
        self.driver = CsrDriver("driver", self)

    def connect_phase(self) -> None:
        """Let the driver pull from the sequencer."""
        self.driver.seq_item_port.connect(self.sequencer.seq_item_export)
