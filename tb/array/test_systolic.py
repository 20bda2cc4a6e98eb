# amaranth: UnusedElaboratable=no
"""The systolic engine: every result row, in order, against the golden model; the golden model against a plain product."""

import random
from itertools import pairwise

import numpy as np
import pytest

from hw.array import ENGINES
from hw.array.systolic import SystolicEngine
from hw.config import AcceleratorConfig
from hw.engines import ENGINES as INFOS
from hw.errors import ConfigError
from hw.isa import Dataflow
from hw.pe import PE_TYPES
from sw.golden.array.systolic import result_rows
from tb.array.engine import CONFIGS, SMALL, EngineBench, memory_image, random_command
from tb.sim import simulate


@pytest.mark.parametrize(("stall", "one_port"), [(0.0, False), (0.5, False), (0.0, True), (0.2, True)],
                         ids=["ideal", "stalls", "one-bank", "both"])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_commands(name: str, stall: float, one_port: bool) -> None:
    """Back to back, with pauses, operands stalled or in one bank: the same rows in the same order, all counters right."""
    config, seed = CONFIGS[name], 7
    rng = random.Random(seed)
    commands = [random_command(config, rng) for _ in range(14)]
    scratchpad = memory_image(config, seed)
    dut = SystolicEngine(config)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=seed)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=seed)

    expected = [row for command in commands for row in result_rows(config, command, scratchpad)]
    assert len(bench.rows) == len(expected)
    for got, want in zip(bench.rows, expected, strict=True):
        assert got[1:] == (want[0], want[1], list(want[2]))
    assert len(bench.done) == len(bench.taken) == len(commands)
    assert bench.macs == sum(c["m"] * c["n"] * c["k"] for c in commands)
    assert bench.error_cycle is None
    assert (bench.stalls > 20) == (stall > 0 or one_port)
    assert bench.split == 0 or "os" in config.dataflows or stall or one_port
    if len(config.dataflows) == 2:
        kinds = [c["dataflow"] for c in commands]
        assert {(0, 1), (1, 0)} <= set(pairwise(kinds))


@pytest.mark.parametrize("dataflow", Dataflow)
def test_golden_model_multiplies(dataflow: Dataflow) -> None:
    """The rows of the golden model, added up, are A·B of matrices laid out as docs/frame.md says."""
    config = AcceleratorConfig(**SMALL)
    rng = np.random.default_rng(3)
    m, n, k = 7, 6, 11
    a, b = rng.integers(-128, 128, (m, k)), rng.integers(-128, 128, (k, n))
    left = a if dataflow == Dataflow.WS else a.T
    left = np.pad(left, ((0, 0), (0, -left.shape[1] % 4)), constant_values=99).astype(np.int8)
    right = np.pad(b, ((0, 0), (0, -n % 4)), constant_values=99).astype(np.int8)
    scratchpad = np.concatenate([left.ravel(), right.ravel()]).view(np.uint8)
    command = {"activation_addr": 0, "activation_stride": left.shape[1], "activation_tile_stride": 4,
               "weight_addr": left.size, "weight_stride": right.shape[1], "weight_tile_stride": 4,
               "acc_addr": 2, "acc_tile_stride": 10, "m": m, "n": n, "k": k, "dataflow": int(dataflow), "accumulate": 0}
    accumulator = np.full((32, 4), 1 << 20)
    for row, accumulate, psums in result_rows(config, command, scratchpad):
        accumulator[row] = psums + (accumulator[row] if accumulate else 0)
    product = np.concatenate([accumulator[2:2 + m], accumulator[12:12 + m]], axis=1)
    assert (product[:, :n] == a @ b).all()
    assert (product[:, n:] == 0).all()
    assert (accumulator[[0, 1, 9, 10, 11, 19]] == 1 << 20).all()


def test_registry_and_bad_configs() -> None:
    assert ENGINES["systolic"] is SystolicEngine
    assert ENGINES.keys() == INFOS.keys()
    with pytest.raises(ConfigError, match=rf"^PESpec\.kind must be one of {', '.join(PE_TYPES)}, not 'cam'$"):
        SystolicEngine(AcceleratorConfig(pe="cam"))
