"""cocotb bench of the whole accelerator: a compiled GEMM, with cocotbext-axi's own master and memory on the real ports."""

import itertools
import os

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam, AxiResp

from hw.config import AcceleratorConfig
from hw.regs import register, registers_of
from sw.kernels.spec import GemmSpec
from sw.runtime import compile_gemm, gemm_args, place_operands, read_output, reference_gemm

CONFIG = AcceleratorConfig.from_json(os.environ["HEDDLE_BENCH_CONFIG"])
SHAPE = tuple(int(size) for size in os.environ.get("HEDDLE_BENCH_GEMM", "9,11,13").split(","))


class HostView:
    """What `place_operands` needs of a session: memory."""

    def __init__(self, size: int):
        self.memory = np.zeros(size, dtype=np.uint8)


class TB:
    """The accelerator with a register master and a RAM."""

    def __init__(self, dut, size: int = 1 << 18):
        self.dut, self.size = dut, size
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        self.csr = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=size)

    def stall(self, pattern: list[bool]) -> None:
        """Hold back every memory channel with a pattern."""
        write, read = self.ram.write_if, self.ram.read_if
        for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
            channel.set_pause_generator(itertools.cycle(pattern))

    async def reset(self) -> None:
        """Four cycles of reset."""
        self.dut.rst.value = 1
        for _ in range(4):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)

    async def write(self, name: str, value: int) -> None:
        """Set a register; the response must be OKAY."""
        response = await self.csr.write(register(name).offset, value.to_bytes(4, "little"))
        assert response.resp == AxiResp.OKAY

    async def read(self, name: str) -> int:
        """Return a register."""
        return int.from_bytes((await self.csr.read(register(name).offset, 4)).data, "little")

    async def gemm(self, spec: GemmSpec, seed: int) -> None:
        """Compile, place, run, and compare with plain numpy."""
        rng = np.random.default_rng(seed)
        a = rng.integers(CONFIG.activation.minimum, CONFIG.activation.maximum + 1, (spec.m, spec.k), dtype=np.int8)
        b = rng.integers(CONFIG.weight.minimum, CONFIG.weight.maximum + 1, (spec.k, spec.n), dtype=np.int8)
        scale = float(np.float32(0.004))
        program = compile_gemm(CONFIG, spec)
        host = HostView(self.size)
        place_operands(host, program, spec, a=a, b=b)
        code = program.code.view(np.uint8)
        host.memory[program.code_addr:program.code_addr + len(code)] = code
        self.ram.write(0, host.memory.tobytes())
        await self.write("PROGRAM_ADDR", program.code_addr)
        await self.write("PROGRAM_LENGTH", len(program.code))
        await self.write("IRQ_ENABLE", 1)
        values = gemm_args(program, scale)
        for name, index in program.arguments.items():
            await self.write(f"ARG{index}", values[name])
        await self.write("CONTROL", 1)
        await with_timeout(RisingEdge(self.dut.irq), 2, "ms")
        assert await self.read("STATUS") & 7 == 2
        await self.write("IRQ_STATUS", 1)
        assert await self.read("MACS_LO") == spec.macs
        outputs = {region.name: np.frombuffer(self.ram.read(region.addr, region.size), dtype=np.uint8)
                   for region in program.regions if region.role == "output"}
        np.testing.assert_array_equal(read_output(program, outputs).reshape(spec.m, spec.n),
                                      reference_gemm(a, b, scale=scale))


@cocotb.test()
async def a_gemm_comes_out_right(dut):
    tb = TB(dut)
    await tb.reset()
    m, n, k = SHAPE
    for seed, dataflow in enumerate(CONFIG.dataflows):
        await tb.gemm(GemmSpec(m=m, n=n, k=k, dataflow=dataflow), seed)


@cocotb.test()
async def a_gemm_comes_out_right_from_a_memory_that_stalls(dut):
    tb = TB(dut)
    await tb.reset()
    tb.stall([True, False, False, True, True, False, True])
    await tb.gemm(GemmSpec(m=6, n=5, k=7), 7)


@cocotb.test()
async def registers_answer_as_their_table_says(dut):
    tb = TB(dut)
    await tb.reset()
    for entry in registers_of(()):
        assert await tb.read(entry.name) == entry.reset, entry.name
    for entry in registers_of(()):
        mask = (1 << sum(field.width for field in entry.fields)) - 1
        response = await tb.csr.write(entry.offset, (0xFFFF_FFFF if entry.access == "RW" else 0).to_bytes(4, "little"))
        assert response.resp == (AxiResp.SLVERR if entry.access == "R" else AxiResp.OKAY), entry.name
        assert await tb.read(entry.name) == (mask if entry.access == "RW" else entry.reset), entry.name
    assert (await tb.csr.read(0x3F8, 4)).resp == AxiResp.SLVERR
