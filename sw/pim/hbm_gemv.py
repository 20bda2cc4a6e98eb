"""A matrix-vector product on HBM-PIM: layout, microkernel, host protocol, and what it costs.

A tile is 8 outputs × 128 inputs a unit: GRF_A holds the inputs, 16 in each register; GRF_B a vector of 16 partial sums for each
output, which the host adds at the end. A tile's weights fill rows 2t and 2t + 1: output o is at row bit 0 and column bits 4:3,
inputs at column bits 2:0. Even banks have the tiles of even number along the inputs, odd banks the others.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.pim.crf import BANK_ROWS, CONFIG_COLUMNS, GRF_WORDS, LANES, CrfOpcode, Operand
from hw.pim.timing import timing_named
from sw.golden.pim.hbm_pim import UNITS, HbmPim
from sw.pim.crf_assembler import CrfError, encode_instruction

__all__ = ["INPUTS", "OUTPUTS", "gemv", "gemv_program", "gemv_speedup", "gemv_tck"]

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


def gemv(weights: Halves, x: Halves) -> tuple[npt.NDArray[np.float32], int]:
    """Return weights · x by one pseudo-channel, and the micro-instructions that have run.

    weights: (M, K), x: (K,), float16 → (M,) float32. Both sides are padded to whole tiles, inputs to pairs of them.
    """
    outputs, inputs = weights.shape
    if x.shape != (inputs,):
        raise CrfError(f"x must have one element for each of {inputs} columns, not the shape {x.shape}")
    pairs, blocks = ceil_div(inputs, 2 * INPUTS), ceil_div(outputs, OUTPUTS)
    if 2 * pairs * blocks > _RESULT_ROW:
        raise CrfError(f"weights must fill at most {_RESULT_ROW} rows, not {2 * pairs * blocks}")
    padded = np.zeros((blocks * OUTPUTS, 2 * pairs * INPUTS), np.float16)
    padded[:outputs, :inputs] = weights
    vector = np.zeros(2 * pairs * INPUTS, np.float16)
    vector[:inputs] = x
    pim, result = HbmPim(), np.zeros(blocks * OUTPUTS, np.float32)
    _store(pim, padded, blocks, pairs)
    for block in range(blocks):
        _reserved(pim, "enter_hab")
        pim.load_program(gemv_program(pairs))
        _set_mode(pim, on=True)
        for pair in range(pairs):
            for odd in (False, True):
                _inputs(pim, vector[(2 * pair + odd) * INPUTS:][:INPUTS])
                _tile(pim, 2 * (block * pairs + pair), odd=odd)
        pim.activate(_RESULT_ROW)
        for column in range(GRF_WORDS):
            pim.write(column, np.zeros(2 * LANES, np.uint8))
        pim.precharge()
        _set_mode(pim, on=False)
        _reserved(pim, "exit_hab")
        pim.activate(_RESULT_ROW)
        for unit in range(UNITS):
            for column in range(GRF_WORDS):
                sums = pim.read(column, unit=unit).view(np.float16).astype(np.float32)
                result[block * OUTPUTS + unit * GRF_WORDS + column] = sums.sum()
        pim.precharge()
    return result[:outputs], pim.instructions


def _store(pim: HbmPim, weights: Halves, blocks: int, pairs: int) -> None:
    """Write the weights as a host does, bank by bank."""
    shaped = weights.reshape(blocks, UNITS, 2, 4, pairs, 2, GRF_WORDS, LANES)
    for block in range(blocks):
        for pair in range(pairs):
            for half in range(2):
                pim.activate(2 * (block * pairs + pair) + half)
                for unit in range(UNITS):
                    for column in range(32):
                        for odd in (False, True):
                            lanes = shaped[block, unit, half, column // 8, pair, int(odd), column % 8]
                            pim.write(column, np.ascontiguousarray(lanes).view(np.uint8), unit=unit, odd=odd)
                pim.precharge()


def _reserved(pim: HbmPim, name: str) -> None:
    pim.activate(BANK_ROWS[name])
    pim.precharge()


def _set_mode(pim: HbmPim, *, on: bool) -> None:
    data = np.zeros(2 * LANES, np.uint8)
    data[:2] = on, on                       # with PIM mode on, GRF_B is cleared
    pim.activate(BANK_ROWS["config"])
    pim.write(CONFIG_COLUMNS["mode"].start, data)
    pim.precharge()


def _inputs(pim: HbmPim, vector: Halves) -> None:
    pim.activate(BANK_ROWS["config"])
    for i, column in enumerate(CONFIG_COLUMNS["grf_a"]):
        pim.write(column, vector[LANES * i:LANES * (i + 1)].view(np.uint8))
    pim.precharge()


def _tile(pim: HbmPim, row: int, *, odd: bool) -> None:
    for half in range(2):
        pim.activate(row + half)
        for column in range(32):
            pim.read(column, odd=odd)
        pim.precharge()


def gemv_tck(outputs: int, inputs: int) -> int:
    """Return the DRAM clocks of a product on one pseudo-channel: tiles of 64 MACs in two rows, and 8 writes of inputs each.

    Rows as in `hw.pim.timing`; the writes go to a row of their own, with the turn of the bus from write to read.
    """
    dram = timing_named("hbm2")
    writes = dram.rcd_write + (GRF_WORDS - 1) * dram.ccd_l + dram.cwl + dram.bl + dram.wr + dram.rp
    return ceil_div(outputs, OUTPUTS) * ceil_div(inputs, INPUTS) * (2 * dram.row_period(dram.ccd_l) + writes)


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
    external = Fraction(outputs * inputs * 2 * dram.ccd_s, dram.burst_bytes)
    return external / (open_writes if open_configuration else gemv_tck(outputs, inputs))
