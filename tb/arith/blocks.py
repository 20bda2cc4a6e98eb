"""Blocks of every format side by side in Verilator, against their golden models."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.elements import FloatFormat
from tb.arith.decode.bank import Bank

__all__ = ["Case", "check_all", "mode_name"]

Case = tuple[Any, Mapping[str, npt.ArrayLike], npt.NDArray[np.uint64]]
"""A block, its operands by port, and the words expected of its output `o`."""


def mode_name(fmt: FloatFormat, subnormals: bool) -> str:
    """Return the name of a block in a bank."""
    return f"{fmt.name}{'' if subnormals else ' flushed'}"


def check_all(name: str, cases: Mapping[str, Case], *, output: str = "o", describe: Callable[[int], str] = hex) -> None:
    """Run every case and compare every word of the output; the first one that differs is shown with its operands."""
    found = Bank({key: block for key, (block, _, _) in cases.items()}, name).run(
        {key: {"enable": 1, **ports} for key, (_, ports, _) in cases.items()})
    for key, (_, ports, expected) in cases.items():
        got = found[key][output]
        assert got.shape == expected.shape
        assert got.size > 0
        wrong = np.flatnonzero(got != expected)
        if wrong.size:
            at = wrong[0]
            shown = {port: describe(int(np.broadcast_to(column, got.shape)[at])) for port, column in ports.items()}
            raise AssertionError(f"{key}: {wrong.size} of {got.size} differ, the first at {shown}: "
                                 f"got {describe(int(got[at]))}, expected {describe(int(expected[at]))}")
