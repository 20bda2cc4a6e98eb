"""A GEMM as several programs, each of some rows of C: where the hardware fails, only one of them has to be run again."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.device import Result, Session
from sw.kernels.spec import GemmSpec
from sw.layout import round_up
from sw.program import Program, ProgramError, Region
from sw.runtime import PAGE, compile_gemm, gemm_args, place_operands, read_output

__all__ = ["GemmPart", "SplitGemm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GemmPart:
    """The program of rows `first` to `first` + spec.m of A and C."""

    first: int
    spec: GemmSpec
    program: Program


class SplitGemm:
    """Programs of a GEMM that share B, biases and scales in memory; parts of equal size share their code, too.

    No part writes what it, or another, reads: any of them may be repeated (`sw.retry`).

    Parameters
    ----------
    config : AcceleratorConfig
    spec : GemmSpec
        Of the whole.
    rows : int
        Of a part; the last one has what is left.
    base : int
        First byte of the programs' memory, a multiple of 4096.

    Attributes
    ----------
    parts : tuple of GemmPart
    memory_bytes : int
        Least DRAM that holds them.

    Raises
    ------
    ValueError
        If `rows` is no number of rows, or the GEMM is impossible.
    """

    def __init__(self, config: AcceleratorConfig, spec: GemmSpec, rows: int, *, base: int = 0):
        if not 1 <= rows <= spec.m:
            raise ProgramError(f"rows of a part must be between 1 and {spec.m}, those of the GEMM, not {rows!r}")
        self.spec = spec
        sizes = [min(rows, spec.m - first) for first in range(0, spec.m, rows)]
        compiled = {m: compile_gemm(config, replace(spec, m=m), base=base) for m in dict.fromkeys(sizes)}
        addr, shared = base, []
        for region in compiled[sizes[0]].regions:
            if region.name not in ("a", "c"):
                shared.append(replace(region, addr=addr))
                addr = round_up(addr + region.size, PAGE)
        code_addr = {}
        for m, program in compiled.items():
            code_addr[m] = addr
            addr = round_up(addr + program.code_bytes, PAGE)
        parts = []
        for number, m in enumerate(sizes):
            own = []
            for name in ("a", "c"):
                own.append(replace(compiled[m].region(name), addr=addr))
                addr = round_up(addr + own[-1].size, PAGE)
            name = f"{compiled[m].name}, part {number}"
            parts.append(GemmPart(first=rows * number, spec=replace(spec, m=m), program=replace(
                compiled[m], name=name, kernels=((0, name),), code_addr=code_addr[m], regions=(*shared, *own))))
        self.parts = tuple(parts)
        self.memory_bytes = max(part.program.memory_bytes for part in parts)

    def run(self, session: Session, *, a: npt.NDArray[Any], b: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None,
            scale: Any = None) -> tuple[npt.NDArray[Any], list[Result]]:
        """Place operands, run the parts, and return the (batch, M, N) result with each part's Result.

        The operands are those of `sw.runtime.run_gemm`.
        """
        per_channel = self.spec.per_channel
        made, results = [], []
        for part in self.parts:
            rows = a[..., part.first:part.first + part.spec.m, :]
            if part is self.parts[0]:
                place_operands(session, part.program, part.spec, a=rows, b=b, bias=bias, scale=scale if per_channel else None)
            else:
                place_operands(session, _only(part.program, "a"), part.spec, a=rows)
            results.append(session.run(part.program, gemm_args(part.program, None if per_channel else scale)))
            made.append(read_output(part.program, results[-1].outputs))
        return np.concatenate(made, axis=-2), results


def _only(program: Program, name: str) -> Program:
    """Return the program with no inputs but `name`."""
    def region(known: Region) -> Region:
        return replace(known, role="scratch") if known.role == "input" and known.name != name else known

    return replace(program, regions=tuple(region(known) for known in program.regions))
