"""Row maxima against numpy: rows of any length back to back, with gaps, and held; seeds, NaN and zeros of both signs."""

import functools

import numpy as np
import pytest

from hw.timing import row_maximum_latency
from hw.vector.row_maximum import RowMaximum
from sw.golden.vector.elements import row_maximum
from sw.golden.vector.streams import canonical
from tb.arith.decode.bank import Bank
from tb.vector.rows import Schedule, random_rows, schedule

LANES = (1, 3, 8)


@functools.cache
def bank() -> Bank:
    return Bank({f"lanes {lanes}": RowMaximum(lanes=lanes) for lanes in LANES}, "row_maximum")


def with_seeds(case: Schedule, delay: int, seeds: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return ports with each row's seed in the cycles in which its first slice is `delay` enabled cycles old."""
    enabled = np.flatnonzero(case.ports["enable"])
    port = rng.integers(0, 1 << 32, len(case.ports["enable"]), np.uint32)
    begins = np.flatnonzero((case.ports["enable"] == 1) & (case.ports["valid"] == 1) & (case.ports["first"] == 1))
    port[enabled[np.searchsorted(enabled, begins) + delay]] = seeds
    return case.ports | {"seed": port}


@pytest.mark.parametrize(("gap", "stall"), [(0.0, 0.0), (0.3, 0.3), (0.0, 0.5)])
def test_random_rows(gap, stall):
    rng = np.random.default_rng(5)
    rows = {lanes: random_rows(rng, 400, (2, 5, 9)[lanes % 3] * lanes) for lanes in LANES}
    seeds = np.concatenate(random_rows(rng, 400, 5))[:400]
    seeds[::3] = 0xFF80_0000
    for lanes in LANES:
        rows[lanes][0][:] = 0xFF80_0000
    cases = {lanes: schedule(rows[lanes], lanes, gap=gap, stall=stall, idle=20, seed=lanes) for lanes in LANES}
    found = bank().run({f"lanes {lanes}": with_seeds(case, bank().blocks[f"lanes {lanes}"].seed_delay, seeds, rng)
                        for lanes, case in cases.items()})
    seen: set[np.uint32] = set()
    for lanes in LANES:
        outputs = found[f"lanes {lanes}"]
        shown = np.flatnonzero(outputs["o"] & 1)
        with np.errstate(all="ignore"):
            expected = [canonical(row_maximum(row.view(np.float32)[None], seed.view(np.float32)[None])).view(np.uint32)[0]
                        for row, seed in zip(rows[lanes], seeds, strict=True)]
        np.testing.assert_array_equal(outputs["o"][shown] >> 1, expected, err_msg=f"{lanes} lanes")
        seen |= set(expected)
        assert not outputs["busy"][-1]
        if not gap and not stall:
            np.testing.assert_array_equal(shown, cases[lanes].last)     # the bank shows outputs `latency` cycles earlier
    assert {0, 1 << 31, 0x7FC0_0000, 0xFF80_0000, 0x7F80_0000} <= seen


def test_latency():
    for lanes in LANES:
        block = bank().blocks[f"lanes {lanes}"]
        assert block.latency == row_maximum_latency(lanes) == block.seed_delay + 1
