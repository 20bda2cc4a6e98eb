"""Which silent corruptions matter to who asked for the result: the top-1 of its rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.targets.gemm_run import GemmRun
from flows.fault.targets.workloads import DRAM
from hw.config import AcceleratorConfig
from sw.golden.device import GoldenDevice
from sw.runtime import read_output

__all__ = ["TopOne", "judged"]

MOST_JUDGED = 5000
"""Silent corruptions of a campaign that are looked at."""
_AT_ONCE = 500


class TopOne:
    """A corruption is critical if the largest element of any row of the result is another one, or any element is not a number.

    So a class or a token that follows from the row is another one. The largest is the first of equals.

    Parameters
    ----------
    config : AcceleratorConfig
    run : GemmRun
    """

    name = "top-1"

    def __init__(self, config: AcceleratorConfig, run: GemmRun):
        session = GoldenDevice(config).open(run.program.memory_bytes)
        session.memory[:] = run.memory[:len(session.memory)]
        session.run(run.program, run.args)
        self._program, self._memory = run.program, session.memory.copy()
        self._chosen = self._result(self._memory).argmax(-1)

    def _result(self, memory: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        return read_output(self._program, self._program.read_outputs(memory))

    def critical(self, corruption: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Return whether wrong words (memory path → CORRUPTION rows, of `LanesEngine.corruptions`) change the top-1 of a row."""
        rows = corruption.get(DRAM)
        if rows is None:
            return False
        memory = self._memory.copy()
        inside = rows[rows["word"] < len(memory) // 4]
        memory[:len(memory) // 4 * 4].view("<u4")[inside["word"]] = inside["got"]
        result = self._result(memory)
        return bool(np.isnan(result).any() or (result.argmax(-1) != self._chosen).any())


def judged(engine: Any, criterion: TopOne, faults: npt.NDArray[Any]) -> dict[str, int]:
    """Return how many of some silent corruptions are critical and how many tolerable.

    Of more than `MOST_JUDGED`, as many are looked at, evenly spread: the first ones would be those of one stratum or cycle.
    """
    critical = 0
    if len(faults) > MOST_JUDGED:
        faults = faults[np.arange(MOST_JUDGED) * len(faults) // MOST_JUDGED]
    for start in range(0, len(faults), _AT_ONCE):
        critical += sum(criterion.critical(found) for found in engine.corruptions(faults[start:start + _AT_ONCE]))
    return {"tolerable": len(faults) - critical, "critical": critical}
