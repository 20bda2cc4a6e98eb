"""Cycle formulas of the BitMoD engine: M tokens, N outputs, K reduction, G weights of a group."""

from math import ceil

from hw.config import ceil_div

__all__ = ["BITMOD_TERMS", "bitmod_cycles", "bitmod_paper_layer"]

BITMOD_TERMS = {"int8": 4, "int6": 3, "int5": 3, "int4": 2, "int3": 2, "fp4": 2, "fp3": 2}
"""Bit-serial terms of a weight, and so cycles for four of them in a BitMoD PE."""
_BITMOD_LANES = 4
_BITMOD_BUFFER_BYTES = 512 * 1024       # weight buffer and activation buffer of the paper, each
_BITMOD_DRAM_BITS = 256                 # a cycle, in the authors' model: 128 pins, both edges


def bitmod_cycles(rows: int, columns: int, m: int, n: int, k: int, precision: str, group: int, tile_rows: int = 8) -> int:
    """Return the cycles from the first term of a product to the first term of what follows, in R×C BitMoD PEs.

    Output-stationary: ⌈M/R⌉·⌈N/C⌉ results, each of ⌈K/G⌉ groups of ⌈G/4⌉ steps of `BITMOD_TERMS` cycles; the last group may be
    shorter. Nothing stands between groups or results: scales are multiplied and columns drained behind the next group, as long
    as a group takes the 8 bits of a scale and the rows of a tile; a shorter one takes so long.
    """
    terms, least = BITMOD_TERMS[precision], 8 + tile_rows
    cycles = k // group * max(least, ceil_div(group, _BITMOD_LANES) * terms)
    if k % group:
        cycles += max(least, ceil_div(k % group, _BITMOD_LANES) * terms)
    return ceil_div(m, rows) * ceil_div(n, columns) * cycles


def bitmod_paper_layer(rows: int, columns: int, m: int, n: int, k: int, weight_bits: float) -> int:
    """Return the cycles of a linear layer in the authors' performance model, which has no pipeline to fill.

    There `rows` count output channels and `columns` tokens, float16 activations come in and go out, and `weight_bits` are those
    of a weight with its share of the scale (6.0625 lossless, 4.0625 and 3.0625 lossy). The larger one of computing,
    ⌈K/4⌉·⌈N/rows⌉·⌈M/columns⌉·⌈⌊bits⌋/2⌋, and of moving all operands at 256 bits a cycle; of two that exceed 512 KiB each, one
    is fetched again for each bufferful of the other, whichever is less.

    Source: bitmod_sim of the authors (grade: derived, reproduces their Llama-2-7B figures; `weight_bits` of a row in whole
    bytes). Differs from `bitmod_cycles`, which says what the RTL takes: that has no memory, and counts the scale's groups.
    """
    compute = ceil_div(k, _BITMOD_LANES) * ceil_div(n, rows) * ceil_div(m, columns) * ceil_div(int(weight_bits), 2)
    weights, inputs, outputs = n * ceil(k * weight_bits / 8), m * 2 * k, m * 2 * n
    moved = weights + inputs
    if min(weights, inputs) > _BITMOD_BUFFER_BYTES:
        moved = min(weights * ceil_div(inputs, _BITMOD_BUFFER_BYTES) + inputs,
                    inputs * ceil_div(weights, _BITMOD_BUFFER_BYTES) + weights)
    return max(compute, (moved + outputs) * 8 // _BITMOD_DRAM_BITS)
