# amaranth: UnusedElaboratable=no
"""The structured-sparsity engine: rows and counters against the golden model, that against products; refusals of configs."""

import pytest

from hw.array.hss import HssEngine
from hw.engines.hss import hss_modes
from sw.golden.array.hss import result_rows
from tb.array.hss import ALL, SDQ, HssBench, config_of, random_case
from tb.sim import simulate

CONFIGS = {
    "rank-1": config_of("hss-4:8-2:4", "hss-4:5-2:3", "hss-4:7-2:2"),
    "all": config_of(*ALL),
    "sdq": config_of("hss-4:6-2:4", SDQ, "2:4"),
    "sdq-only": config_of(SDQ, columns=3, vector_lanes=3),
    "stc": config_of("2:4", "hss-4:4-2:2", engine="stc", columns=3, vector_lanes=3),
    "tc": config_of(engine="tc", columns=4),
    "two-groups": config_of("hss-4:8-2:4", "hss-4:5-2:3", SDQ, rows=16, bus_width=512),
}


@pytest.mark.parametrize(("name", "stall", "one_port"), [
    *((name, 0.0, False) for name in CONFIGS), ("all", 0.4, False), ("rank-1", 0.0, True), ("sdq", 0.2, True)])
def test_random_commands(name: str, stall: float, one_port: bool) -> None:
    """Back to back, modes in turn, operands stalled or in one bank: the same rows in the same order, all counters right."""
    config = CONFIGS[name]
    scratchpad, commands = random_case(config, 16, 7)
    dut = HssEngine(config)
    bench = HssBench(dut, scratchpad, stall=stall, one_port=one_port, seed=7)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=7)
    expected = [row for command in commands for row in result_rows(config, command, scratchpad)]
    assert [row[1:] for row in bench.rows] == [(row, accumulate, list(sums)) for row, accumulate, sums, _ in expected]
    assert [macs for macs, _ in bench.counted] == [live for *_, live in expected]
    assert len(bench.done) == len(bench.taken) == len(commands)
    assert bench.error_cycle is None
    assert (bench.stalls > 20) == (stall > 0 or one_port)
    assert len({command["mode"] for command in commands}) == len(hss_modes(config))
