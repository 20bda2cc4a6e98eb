"""Targets: what they check, what makes them differ, and that the array computes what numpy does."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from flows.fault.targets.array_bench import ArrayBench
from flows.fault.targets.target import Target, TargetError
from flows.fault.targets.workloads import array_operands, array_target
from hw.errors import ConfigError
from hw.pe import PESpec
from tb.sim import simulate

VALID = {"name": "x", "rtlil": "", "top": "x", "cycles": 4, "observed": ("o",)}


@pytest.mark.parametrize(("changes", "text"), [
    ({"cycles": 0}, "Target.cycles must be at least 1 where no port ends the run, not 0"),
    ({"done": "done"}, "Target.limit must be at least 1 where a port ends the run, not 0"),
    ({"observed": ()}, "Target.observed must name a port, or Target.observed_memory a memory: else every fault is masked"),
    ({"stimuli": {"a": np.zeros((0, 2), np.uint32)}}, "Target.stimuli['a'] must have a row for each cycle, not shape (0, 2)"),
    ({"valid": {"p": "v"}}, "Target.valid must qualify observed ports, not 'p'"),
    ({"observed_memory": {"dram": [(4, 4)]}}, "Target.observed_memory['dram'] must be ranges (first, last + 1), not (4, 4)"),
])
def test_an_impossible_target_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(TargetError, match=f"^{re.escape(text)}$"):
        Target(**{**VALID, **changes})


@pytest.mark.parametrize("changes", [
    {"name": "y"}, {"rtlil": "module"}, {"cycles": 5}, {"observed": ("p",)}, {"detected": "o"}, {"environment": ("dram",)},
    {"stimuli": {"a": np.zeros(4, np.uint32)}}, {"stimuli": {"a": np.ones(4, np.uint32)}}, {"taps": {"axi": "a"}},
    {"contents": {"a": np.zeros((4, 1), np.uint32)}}, {"observed_memory": {"m": [(0, 1)]}}, {"watchdog": 1},
    {"valid": {"o": "o"}},
])
def test_the_digest_tells_targets_apart(changes: dict[str, Any]) -> None:
    target = Target(**VALID)
    assert target.digest() == Target(**VALID).digest()
    assert dataclasses.replace(target, **changes).digest() != target.digest()


def test_inputs_keep_their_last_row_and_unnamed_ones_are_zero() -> None:
    target = Target(**VALID, stimuli={"a": np.array([[1, 2], [3, 4]], np.uint32)})
    assert target.words("a", 4).tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]
    assert target.words("b", 2).tolist() == [[0], [0]]


def test_a_run_hangs_after_twice_the_golden_cycles_and_the_watchdog_s() -> None:
    assert Target(**VALID).deadline(4) == 4
    ended = Target(**{**VALID, "cycles": 0, "done": "done", "limit": 1000, "watchdog": 50})
    assert (ended.deadline(100), ended.deadline(600)) == (250, 1000)


@pytest.mark.parametrize(("arguments", "text"), [
    ((0, 4), "rows of an array must be between 1 and 256, not 0"),
    ((4, 257), "columns of an array must be between 1 and 256, not 257"),
])
def test_an_impossible_array_is_refused(arguments: tuple[int, int], text: str) -> None:
    with pytest.raises(TargetError, match=f"^{re.escape(text)}$"):
        array_target(*arguments)
    with pytest.raises(TargetError, match=r"^steps of an array must be between 1 and 65536, not 0$"):
        array_target(2, 2, steps=0)
    with pytest.raises(ConfigError, match=r"^PESpec.kind must be one of .*, not 'none'$"):
        array_target(2, 2, pe="none")


def test_the_workload_of_the_8x8_array_takes_112_cycles() -> None:
    assert array_target(8, 8).cycles == 112


@pytest.mark.parametrize(("rows", "columns", "steps"), [(2, 2, 4), (3, 2, 5), (1, 4, 3), (4, 5, 6)])
def test_the_array_s_psums_are_those_of_numpy(rows: int, columns: int, steps: int) -> None:
    target = array_target(rows, columns, steps=steps, seed=1)
    bench = ArrayBench(rows=rows, columns=columns, spec=PESpec(
        kind="mac", activation_width=8, weight_width=8, psum_width=17 + (rows - 1).bit_length(), dataflows=("ws",)))
    ports = {name: target.words(name, target.cycles) for name in target.stimuli}
    found: list[list[int]] = []

    async def drive(ctx: Any) -> None:
        for cycle in range(target.cycles):
            for name, words in ports.items():
                ctx.set(getattr(bench, name), int.from_bytes(words[cycle].astype("<u4").tobytes(), "little"))
            if ctx.get(bench.valid):
                found.append([ctx.get(getattr(bench, f"psum_{c}")) for c in range(columns)])
            await ctx.tick()

    simulate(bench, drive)
    activations, weights = array_operands(rows, columns, steps=steps, seed=1)
    assert np.array_equal(found, (activations @ weights).reshape(-1, columns))
