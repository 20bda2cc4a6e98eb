"""Runs a testbench on a block without a clock."""

from typing import Any

from amaranth.sim import Simulator

from tb.sim import Bench

__all__ = ["evaluate"]


def evaluate(dut: Any, bench: Bench) -> None:
    """Run `bench` on the combinational block `dut`: it sets inputs and reads outputs."""
    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
