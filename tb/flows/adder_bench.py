"""cocotb tests of the small adder, run by test_cocotb_runner.py."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from tb.flows.adder import REGISTERS


async def _write(dut, name: str, value: int) -> None:
    dut.s_axil_awaddr.value, dut.s_axil_wdata.value = REGISTERS[name], value
    dut.s_axil_awvalid.value = dut.s_axil_wvalid.value = dut.s_axil_bready.value = 1
    await RisingEdge(dut.clk)
    dut.s_axil_awvalid.value = dut.s_axil_wvalid.value = 0
    while not dut.s_axil_bvalid.value:
        await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)


async def _start(dut) -> None:
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    for name in ("arready", "rvalid", "awready", "wready", "bvalid"):
        getattr(dut, f"m_axi_{name}").value = 0
    for name in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
        getattr(dut, f"s_axil_{name}").value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0


@cocotb.test()
async def asks_for_both_vectors(dut) -> None:
    """The first two read addresses are those of A and B."""
    await _start(dut)
    for name, value in (("A", 0x100), ("B", 0x200), ("BEATS", 4), ("START", 1)):
        await _write(dut, name, value)
    dut.m_axi_arready.value = 1
    seen = set()
    for _ in range(20):
        await RisingEdge(dut.clk)
        if dut.m_axi_arvalid.value:
            seen.add(int(dut.m_axi_araddr.value))
    assert seen == {0x100, 0x200}


@cocotb.test()
async def expects_nonsense(dut) -> None:
    """This one must fail."""
    await _start(dut)
    await ClockCycles(dut.clk, 2)
    assert dut.irq.value == 1, "nothing has run yet"
