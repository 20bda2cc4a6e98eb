"""A matrix-vector product on HBM-PIM: layout, microkernel, host protocol, and what it costs.

A tile is 8 outputs × 128 inputs a unit: GRF_A holds the inputs, 16 in each register; GRF_B a vector of 16 partial sums for each
output, which the host adds at the end. A tile's weights fill rows 2t and 2t + 1: output o is at row bit 0 and column bits 4:3,
inputs at column bits 2:0. Even banks have the tiles of even number along the inputs, odd banks the others.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.pim.crf import GRF_WORDS, LANES, CrfOpcode, HostAccess, Operand
from hw.pim.timing import timing_named
from sw.golden.pim.hbm_pim import UNITS, HbmPim
from sw.pim.crf_assembler import CrfError, encode_instruction
from sw.pim.hbm_access import HbmAccess, load_program, reserved, set_mode, write_registers

__all__ = ["INPUTS", "OUTPUTS", "GemvPlan", "external_tck", "gemv", "gemv_program", "gemv_speedup", "gemv_tck"]

Halves = npt.NDArray[np.float16]

INPUTS = GRF_WORDS * LANES          # of a tile
OUTPUTS = GRF_WORDS * UNITS         # of a tile, all units
_RESULT_ROW = 0x1000
_MOST_PAIRS = 1 << 12               # of tiles, which the count of a JUMP limits


def gemv_program(pairs: int) -> list[int]:
    """Return the microkernel for `pairs` pairs of tiles along the inputs: MACs from even and odd banks, then results to DRAM."""
    if not 1 <= pairs <= _MOST_PAIRS:
        raise CrfError(f"pairs must be between 1 and {_MOST_PAIRS}, not {pairs!r}")
    mac = [encode_instruction(CrfOpcode.MAC, dst=Operand.GRF_B, src0=Operand.GRF_A, src1=bank, auto=1)
           for bank in (Operand.EVEN_BANK, Operand.ODD_BANK)]
    again = encode_instruction(CrfOpcode.JUMP, count=7, offset=1)
    words = [mac[0], again, mac[1], again]
    if pairs > 1:
        words.append(encode_instruction(CrfOpcode.JUMP, count=pairs - 1, offset=4))
    return [*words, encode_instruction(CrfOpcode.MOV, dst=Operand.EVEN_BANK, src0=Operand.GRF_B, auto=1),
            encode_instruction(CrfOpcode.EXIT)]


@dataclass(frozen=True, kw_only=True, slots=True)
class GemvPlan:
    """A product on one pseudo-channel: where weights lie, what the host commands, and what its reads mean.

    Parameters
    ----------
    outputs, inputs : int
        Both are padded to whole tiles, inputs to pairs of them.

    Raises
    ------
    CrfError
        If the weights do not fit.
    """

    outputs: int
    inputs: int

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in ("outputs", "inputs"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise CrfError(f"{name} must be a positive integer, not {value!r}")
        if self.rows > _RESULT_ROW:
            raise CrfError(f"weights must fill at most {_RESULT_ROW} rows, not {self.rows}")

    @property
    def pairs(self) -> int:
        """Pairs of tiles along the inputs."""
        return ceil_div(self.inputs, 2 * INPUTS)

    @property
    def blocks(self) -> int:
        """Tiles along the outputs."""
        return ceil_div(self.outputs, OUTPUTS)

    @property
    def rows(self) -> int:
        """Rows of even and odd banks that the weights fill."""
        return 2 * self.pairs * self.blocks

    @property
    def instructions(self) -> int:
        """Micro-instructions that run."""
        return self.blocks * (self.pairs * 2 * GRF_WORDS * GRF_WORDS + GRF_WORDS)

    def banks(self, weights: Halves) -> Iterator[tuple[int, bool, Halves]]:
        """Yield row, whether of the odd banks, and contents of all units, (32, units, 16); weights: (outputs, inputs)."""
        if weights.shape != (self.outputs, self.inputs) or weights.dtype != np.float16:
            raise CrfError(f"weights must be float16 of shape {(self.outputs, self.inputs)}, not {weights.dtype} of shape "
                           f"{weights.shape}")
        padded = np.zeros((self.blocks * OUTPUTS, 2 * self.pairs * INPUTS), np.float16)
        padded[:self.outputs, :self.inputs] = weights
        shaped = padded.reshape(self.blocks, UNITS, 2, 4, self.pairs, 2, GRF_WORDS, LANES)
        for block, pair, half, odd in np.ndindex(self.blocks, self.pairs, 2, 2):
            columns = shaped[block, :, half, :, pair, odd].transpose(1, 2, 0, 3)
            yield 2 * (block * self.pairs + pair) + half, bool(odd), columns.reshape(-1, UNITS, LANES)

    def accesses(self, x: Halves) -> list[HbmAccess]:
        """Return what the host commands for x, (inputs,) float16."""
        if x.shape != (self.inputs,) or x.dtype != np.float16:
            raise CrfError(f"x must be float16 of shape {(self.inputs,)}, not {x.dtype} of shape {x.shape}")
        vector = np.zeros(2 * self.pairs * INPUTS, np.float16)
        vector[:self.inputs] = x
        registers = vector.reshape(self.pairs, 2, GRF_WORDS, LANES)
        found = []
        for block in range(self.blocks):
            found += [*reserved("enter_hab"), *load_program(gemv_program(self.pairs)), *set_mode(on=True, clear=True)]
            for pair, odd in np.ndindex(self.pairs, 2):
                found += write_registers("grf_a", registers[pair, odd])
                for half in range(2):
                    found += _columns(2 * (block * self.pairs + pair) + half, range(32), odd=bool(odd))
            found += [*_columns(_RESULT_ROW, range(GRF_WORDS)), *set_mode(on=False), *reserved("exit_hab")]
            found.append(HbmAccess(HostAccess.ACT, row=_RESULT_ROW))
            found += [HbmAccess(HostAccess.RD, column=column, unit=unit) for unit in range(UNITS) for column in range(GRF_WORDS)]
            found.append(HbmAccess(HostAccess.PRE))
        return found

    def result(self, reads: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Return the product, (outputs,), from the reads of `accesses`, in order: their lanes added."""
        sums = np.frombuffer(b"".join(reads), np.float16).reshape(self.blocks * OUTPUTS, LANES).astype(np.float32)
        return sums.sum(axis=1)[:self.outputs]


def _columns(row: int, columns: Iterable[int], *, odd: bool = False) -> list[HbmAccess]:
    """Return reads of a row: in PIM mode, instructions."""
    return [HbmAccess(HostAccess.ACT, row=row), *(HbmAccess(HostAccess.RD, column=column, odd=odd) for column in columns),
            HbmAccess(HostAccess.PRE)]


def gemv(weights: Halves, x: Halves) -> tuple[npt.NDArray[np.float32], int]:
    """Return weights · x by the interpreter of one pseudo-channel, and the micro-instructions that have run.

    weights: (M, K), x: (K,), float16 → (M,) float32.
    """
    plan, pim = GemvPlan(outputs=weights.shape[0], inputs=weights.shape[1]), HbmPim()
    for row, odd, values in plan.banks(weights):
        pim.fill(row, odd, values)
    return plan.result(pim.run(plan.accesses(x))), pim.instructions


def gemv_tck(outputs: int, inputs: int) -> int:
    """Return the DRAM clocks of a product on one pseudo-channel: tiles of 64 MACs in two rows, and 8 writes of inputs each.

    Rows as in `hw.pim.timing`; the writes go to a row of their own, with the turn of the bus from write to read.
    """
    dram = timing_named("hbm2")
    writes = dram.rcd_write + (GRF_WORDS - 1) * dram.ccd_l + dram.cwl + dram.bl + dram.wr + dram.rp
    return ceil_div(outputs, OUTPUTS) * ceil_div(inputs, INPUTS) * (2 * dram.row_period(dram.ccd_l) + writes)


def external_tck(outputs: int, inputs: int) -> Fraction:
    """Return the DRAM clocks in which the weights go over a pseudo-channel's pins, at their peak rate."""
    dram = timing_named("hbm2")
    return Fraction(outputs * inputs * 2 * dram.ccd_s, dram.burst_bytes)


def gemv_speedup(outputs: int, inputs: int, *, open_configuration: bool = True) -> Fraction:
    """Return by how much PIM is faster than reading the weights over the pins at the peak rate.

    Parameters
    ----------
    outputs, inputs : int
    open_configuration : bool
        The registers are written through a row that stays open (they are no cells), so only column commands count.
    """
    dram = timing_named("hbm2")
    tiles = ceil_div(outputs, OUTPUTS) * ceil_div(inputs, INPUTS)
    open_writes = tiles * (2 * dram.row_period(dram.ccd_l) + GRF_WORDS * dram.ccd_l)
    return external_tck(outputs, inputs) / (open_writes if open_configuration else gemv_tck(outputs, inputs))
