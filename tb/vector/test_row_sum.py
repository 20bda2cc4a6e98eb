"""Row sums against numpy in the order that is defined: rows of any length back to back, with gaps, and held."""

import functools

import numpy as np
import numpy.typing as npt
import pytest

from hw.timing import row_sum_latency
from hw.vector.row_sum import RowSum
from sw.golden.vector.elements import row_sum
from sw.golden.vector.streams import canonical
from tb.arith.decode.bank import Bank
from tb.vector.rows import Schedule, random_rows, schedule

LANES = (1, 3, 4)


@functools.cache
def bank() -> Bank:
    return Bank({f"lanes {lanes}": RowSum(lanes=lanes) for lanes in LANES}, "row_sum")


def expected(rows: list[npt.NDArray[np.uint32]], lanes: int) -> npt.NDArray[np.uint32]:
    with np.errstate(all="ignore"):
        return np.array([canonical(row_sum(row.view(np.float32)[None], lanes)).view(np.uint32)[0] for row in rows])


def run(cases: dict[int, Schedule]) -> dict[int, npt.NDArray[np.uint64]]:
    """Return the output of each block in each cycle, from `latency` on; after the last slice it must fall silent."""
    found = bank().run({f"lanes {lanes}": case.ports | {"flush": 0} for lanes, case in cases.items()})
    assert not any(int(outputs["busy"][-1]) for outputs in found.values())
    return {lanes: found[f"lanes {lanes}"]["o"] for lanes in cases}


@pytest.mark.parametrize(("gap", "stall"), [(0.0, 0.0), (0.3, 0.0), (0.1, 0.3), (0.0, 0.5)])
def test_random_rows(gap, stall):
    rows = {lanes: random_rows(np.random.default_rng(lanes), 400, (3, 12, 30)[lanes % 3] * lanes) for lanes in LANES}
    cases = {lanes: schedule(rows[lanes], lanes, gap=gap, stall=stall, idle=100, seed=lanes) for lanes in LANES}
    for lanes, outputs in run(cases).items():
        shown = np.flatnonzero(outputs & 1)
        np.testing.assert_array_equal(outputs[shown] >> 1, expected(rows[lanes], lanes), err_msg=f"{lanes} lanes")
        if not gap and not stall:
            np.testing.assert_array_equal(shown, cases[lanes].last)     # the bank shows outputs `latency` cycles earlier


def test_every_pair_of_lengths():
    """Rows of s and t slices in turn, up to 20 each: whichever running sum a row begins or ends with."""
    rng = np.random.default_rng(3)
    lengths = [length for s in range(1, 21) for t in range(1, 21) for length in (s, t)]
    rows = {lanes: [rng.standard_normal(length * lanes).astype(np.float32).view(np.uint32) for length in lengths]
            for lanes in LANES}
    cases = {lanes: schedule(rows[lanes], lanes, gap=0.02, stall=0.0, idle=100, seed=lanes) for lanes in LANES}
    for lanes, outputs in run(cases).items():
        np.testing.assert_array_equal(outputs[outputs & 1 == 1] >> 1, expected(rows[lanes], lanes), err_msg=f"{lanes} lanes")


def test_latency():
    for lanes in LANES:
        assert bank().blocks[f"lanes {lanes}"].latency == row_sum_latency(lanes) == 26 + 6 * (lanes - 1).bit_length()
