"""One GEMM of a workload, compiled and with its operands in memory: what a program target runs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.fault.targets.target import TargetError
from hw.config import AcceleratorConfig
from sw.golden.device import GoldenDevice
from sw.kernels.case import GemmCase
from sw.program import Program
from sw.runtime import compile_case, gemm_args, place_operands, run_case
from sw.workloads import Workload

__all__ = ["GemmRun", "gemm_run"]


@dataclass(frozen=True)
class GemmRun:
    """What is to be run.

    Attributes
    ----------
    program : Program
    memory : ndarray, uint8
        DRAM with the operands.
    args : mapping of str to int
    """

    program: Program
    memory: npt.NDArray[np.uint8]
    args: Mapping[str, int]


def gemm_run(config: AcceleratorConfig, workload: Workload, *, gemm: int | str = 0, seed: int = 0, dataflow: str = "auto",
             text: str | None = None) -> GemmRun:
    """Return one GEMM of a workload on a config; arguments as of `flows.fault.targets.workloads.workload_target`.

    Raises
    ------
    TargetError
        If the workload has no such GEMM.
    """
    cases: list[GemmCase] = []

    def keep(case: GemmCase) -> npt.NDArray[np.int8]:
        program = compile_case(config, case)
        cases.append(case)
        return run_case(GoldenDevice(config).open(program.memory_bytes), program, case)[0]

    workload.run(config, keep, seed=seed, text=text)
    names = [case.name for case in cases]
    if gemm not in names and not (isinstance(gemm, int) and 0 <= gemm < len(cases)):
        raise TargetError(f"gemm of workload {workload.name!r} must be an index below {len(cases)} or one of {', '.join(names)}, "
                          f"not {gemm!r}")
    case = cases[gemm if isinstance(gemm, int) else names.index(gemm)]
    program = compile_case(config, case, dataflow=dataflow)
    session = GoldenDevice(config).open(program.memory_bytes)
    place_operands(session, program, case.spec, a=case.a, b=case.b, bias=case.bias,
                   scale=case.scale if case.spec.per_channel else None)
    return GemmRun(program, session.memory, gemm_args(program, None if case.spec.per_channel else float(case.scale)))
