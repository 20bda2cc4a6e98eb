# amaranth: UnusedElaboratable=no
"""The structured-sparsity engine: rows and counters against the golden model, that against products; refusals of configs."""

import numpy as np
import pytest

from hw.array.hss import HssEngine
from hw.engines.hss import hss_command_cycles, hss_modes
from sw.engines.hss import hss_layout, pack_sparse
from sw.golden.array.hss import result_rows
from tb.array.hss import ALL, SDQ, SERIES, HssBench, config_of, place, random_case, random_sparse
from tb.sim import simulate

CONFIGS = {
    "rank-1": config_of("hss-4:8-2:4", "hss-4:5-2:3", "hss-4:7-2:2"),
    "all": config_of(*ALL),
    "sdq": config_of("hss-4:6-2:4", SDQ, "2:4"),
    "sdq-only": config_of(SDQ, columns=3, vector_lanes=3),
    "stc": config_of("2:4", "hss-4:4-2:2", engine="stc", columns=3, vector_lanes=3),
    "tc": config_of(engine="tc", columns=4),
    "series": config_of(*SERIES),
    "two-groups": config_of("hss-4:8-2:4", "hss-4:5-2:3", SDQ, "tasd-2:4+1:8", rows=16, bus_width=512, scratchpad_bytes=1 << 14),
}


@pytest.mark.parametrize(("name", "stall", "one_port"), [
    *((name, 0.0, False) for name in CONFIGS), ("all", 0.4, False), ("rank-1", 0.0, True), ("sdq", 0.2, True),
    ("series", 0.4, False), ("series", 0.0, True)])
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


@pytest.mark.parametrize(("first", "second"), [("2:4", "1:8"), ("hss-4:8-2:4", "2:4")])
def test_a_series_of_two_terms_is_two_commands(first: str, second: str) -> None:
    """TASD: both terms with the same activations, the second added: A · (W1 + W2), in the time of both patterns."""
    config = config_of(first, second)
    rng = np.random.default_rng(3)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    one, product, free = place(config, 1, 13, 4, 64, rng, scratchpad)
    w = random_sparse(hss_modes(config)[2], 4, 64, rng)
    layout = hss_layout(config, 2, 4, 64)
    data = pack_sparse(config, layout, w)
    scratchpad[free:free + data.size] = data
    two = one | {"mode": 2, "weight_addr": free, "weight_tile_stride": layout.group_stride, "accumulate": 1}
    dut = HssEngine(config)
    bench = HssBench(dut, scratchpad)
    simulate(dut, bench.feed([one, two]), background=[bench.memory, bench.record])
    a = np.array([scratchpad[row * one["activation_stride"]:][:64] for row in range(13)]).view(np.int8).astype(np.int64)
    found = np.zeros((config.accumulator_rows, config.columns), np.int64)
    for _, row, accumulate, sums in bench.rows:
        found[row] = found[row] * accumulate + sums
    expected = product + a @ w.T
    assert (np.concatenate([found[:13], found[13:26]], axis=1) == expected).all()
    assert bench.done[1] - bench.done[0] == hss_command_cycles(config, 13, 4, 64, 2)
