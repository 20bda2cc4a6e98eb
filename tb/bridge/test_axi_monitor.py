# amaranth: UnusedElaboratable=no
"""The monitor of the buses: quiet on legal traffic, and each rule broken once."""

import pytest
from amaranth.lib.wiring import Out

from hw.bridge.axi_monitor import AxiMonitor
from tb.sim import simulate

BURST = {"arburst": 1, "arsize": 3, "awburst": 1, "awsize": 3}


def watch(cycles):
    """Drive the members named in each cycle, the others zero, and return the first cycle after which a rule was broken."""
    dut = AxiMonitor(bus_width=64, addr_width=10)
    ports = {name: getattr(bus, name) for bus in (dut.read, dut.write) for name in bus.signature.members}
    ports |= {f"lite_{name}": getattr(dut.registers, name) for name in dut.registers.signature.members}
    found = []

    async def bench(ctx):
        for cycle, values in enumerate(cycles):
            for name, port in ports.items():
                ctx.set(port, {**BURST, **values}.get(name, 0))
            await ctx.tick()
            if ctx.get(dut.violation):
                found.append(cycle)

    simulate(dut, bench)
    return found[0] if found else None


READ = {"arvalid": 1, "araddr": 0x40, "arlen": 3}
WRITE = {"awvalid": 1, "awready": 1, "awaddr": 0x40, "awlen": 1}
BEAT = {"wvalid": 1, "wready": 1, "wdata": 5}
ASK, ANSWER = {"lite_arvalid": 1, "lite_arready": 1}, {"lite_rvalid": 1, "lite_rdata": 3}
STORE = {"lite_awvalid": 1, "lite_awready": 1, "lite_wvalid": 1, "lite_wready": 1}


@pytest.mark.parametrize("cycles", [
    [{}, READ, {**READ, "arready": 1}, {}],
    [{**READ, "araddr": 0xFC0, "arlen": 7, "arready": 1}],
    [WRITE, BEAT, {"wvalid": 1, "wdata": 9, "wlast": 1}, {"wvalid": 1, "wready": 1, "wdata": 9, "wlast": 1}, {}],
    [WRITE, BEAT, {**BEAT, "wlast": 1}, {**WRITE, "awlen": 0}, {**BEAT, "wlast": 1}, {}],
    [ASK, ANSWER, {**ANSWER, "lite_rready": 1}, {}],
    [STORE, {"lite_bvalid": 1}, {"lite_bvalid": 1, "lite_bready": 1}, {}],
])
def test_legal_traffic_is_passed(cycles):
    assert watch([*cycles, {}, {}]) is None


@pytest.mark.parametrize(("cycles", "broken"), [
    ([READ, {**READ, "araddr": 0x48}], 1),                      # changed before it was taken
    ([READ, {}], 1),                                            # withdrawn
    ([{**READ, "araddr": 0x44}], 0),                            # not aligned
    ([{**READ, "arsize": 2}], 0),                               # narrow beats
    ([{**READ, "arburst": 2}], 0),                              # wraps
    ([{**READ, "araddr": 0xFC8, "arlen": 7}], 0),               # crosses 4 KiB
    ([{**WRITE, "awready": 0}, {**WRITE, "awlen": 2}], 1),
    ([{**WRITE, "awburst": 0}], 0),
    ([BEAT], 0),                                                # data without a burst
    ([WRITE, {**BEAT, "wlast": 1}], 1),                         # ends early
    ([WRITE, BEAT, BEAT], 2),                                   # ends late
    ([WRITE, BEAT, {**BEAT, "wlast": 1}, BEAT], 3),
    ([WRITE, {**BEAT, "wready": 0}, {**BEAT, "wdata": 6}], 2),
    ([{}, ANSWER], 1),                                          # answers what nobody asked
    ([ASK, ANSWER, {**ANSWER, "lite_rdata": 4}], 2),
    ([ASK, {**ANSWER, "lite_rready": 1}, ANSWER], 2),           # twice
    ([{"lite_awvalid": 1, "lite_awready": 1}, {"lite_bvalid": 1}], 1),
    ([STORE, {"lite_bvalid": 1}, {}], 2),
])
def test_a_broken_rule_is_told(cycles, broken):
    assert watch([*cycles, {}, {}]) == broken


def test_every_port_is_watched_not_driven():
    members = AxiMonitor(bus_width=64, addr_width=10).signature.members
    assert [name for name, member in members.items() if member.flow is Out] == ["violation"]
