"""Cycle formulas of the units beside the matrix engine, and the controller's sizes that decide over cycles.

The one place where they stand; the units' benches assert the formulas.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div, ceil_log2
from hw.isa import REGISTERS, VectorSource

__all__ = [
    "ACCUMULATOR_LATENCY", "FETCH_FILLS", "FETCH_LINE_BYTES", "FLOAT_ACCUMULATOR_LATENCY", "IN_FLIGHT", "LOAD_LATENCY",
    "LOOP_CYCLES", "SKIP_CYCLES", "START_CYCLES", "STORE_LATENCY", "VECTOR_STAGES", "VECTOR_START", "VectorStages",
    "fetch_ahead", "load_cycles", "row_maximum_latency", "row_sum_latency", "store_cycles", "vector_cycles",
]

START_CYCLES = REGISTERS    # of the sequencer, in which it clears the registers and copies the arguments, one a cycle
LOOP_CYCLES = 3             # of the sequencer, from a LOOP to the END that comes next at the earliest
SKIP_CYCLES = 3             # of the sequencer, lost to a LOOP that does not run
IN_FLIGHT = 4               # commands that a unit may have taken and not finished
FETCH_LINE_BYTES = 64       # of an instruction line
FETCH_FILLS = 4             # instruction lines on their way at once
LOAD_LATENCY = 4            # of the load unit, from a command to its address (2), a beat to the scratchpad (1), and to `done` (1)
STORE_LATENCY = 4           # of the store unit, from a command to the cycle in which its first beat leaves
ACCUMULATOR_LATENCY = 2     # of the accumulator, from a row that is valid to its being written
FLOAT_ACCUMULATOR_LATENCY = 8   # likewise, of float32 words; the same row can come again after so many cycles
VECTOR_START = {"requantize": 4, "transformer": 5}
"""Cycles from the one that takes a vector command to the one in which its first slice enters the datapath: two to check the
command, in the second of which the memories are asked; two until their words wait; one more to unpack them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorStages:
    """The cycle, counted from a slice's entry into the datapath, in which each step begins; what a unit lacks takes none."""

    bias: int
    scale: int
    row: int
    maximum: int
    add: int
    function: int
    post: int
    result: int         # the element is there as float32: for sum, maximum and conversion
    output: int         # the slice is on the datapath's output


VECTOR_STAGES = {
    "requantize": VectorStages(bias=1, scale=4, row=8, maximum=8, add=8, function=8, post=8, result=8, output=9),
    "transformer": VectorStages(bias=1, scale=4, row=9, maximum=14, add=15, function=21, post=32, result=37, output=38),
}
"""Of each `AcceleratorConfig.vector`."""

_ADD_LATENCY = 6            # of a float32 adder
_PARTIAL_SUMS = 8           # running sums of a row


def row_sum_latency(lanes: int) -> int:
    """Return the cycles from a row's last slice at stage `result` to its sum: lanes in pairs, running sums, those in pairs."""
    return _ADD_LATENCY * (ceil_log2(lanes) + ceil_log2(_PARTIAL_SUMS)) + _PARTIAL_SUMS


def row_maximum_latency(lanes: int) -> int:
    """Return the cycles from a row's last slice at stage `result` to its maximum: lanes in pairs, the running maximum."""
    return ceil_log2(lanes) + 1


def fetch_ahead(lines: int) -> int:
    """Return how many instruction lines are read ahead of the current one, in a cache of so many lines."""
    return min(FETCH_FILLS, lines // 4)


def vector_cycles(config: AcceleratorConfig, fields: Mapping[str, int]) -> int:
    """Return the cycles of a vector command when no port stalls, from the one that takes the command to the one of `done`.

    One cycle a slice of `vector_lanes` columns, rows of one slice with both a sum and a maximum take two; `VECTOR_START` until
    the first slice enters the datapath; then what the last one still has to go through, a sum being the longest; 1 to write, 1 to
    report. The next command can be taken in the cycle of `done`. Streams in one scratchpad bank stall each other.
    """
    stages, lanes = VECTOR_STAGES[config.vector], config.vector_lanes
    n = 1 if fields["source"] in (VectorSource.ROW, VectorSource.SCALAR) else fields["n"]
    slices = ceil_div(n, lanes)
    apart = 2 if slices == 1 and fields["sum"] and fields["max"] else 1
    through = stages.output
    if config.vector == "transformer":                          # to where a maximum begins, if it is made, to its end
        through = max(through, stages.result + row_maximum_latency(lanes) - (not fields["max"]))
    if fields["sum"]:
        through = max(through, stages.result + row_sum_latency(lanes))
    return VECTOR_START[config.vector] + apart * (fields["m"] * slices - 1) + through + 2


def load_cycles(config: AcceleratorConfig, *, rows: int, row_bytes: int, transpose: bool, memory_latency: int,
                unpack: bool = False) -> int:
    """Return the cycles of a load command when nothing stalls, from the one that takes the command to the one of `done`.

    One cycle a beat of the scratchpad. When transposed, one for each row of each column of blocks, padded to whole blocks, and
    the last block leaves while none enters; each column of bytes that is unpacked leaves in two. Commands that are taken in time
    overlap but for their beats (a transposed command with a transposed one only). `memory_latency` counts from the address
    handshake to the first beat. A burst of n beats, n = 1 when transposed, holds its place for memory_latency + n + 2 cycles; it
    takes `outstanding_reads` · n ≥ that many for the full rate.
    """
    beat = config.beat_bytes
    columns = ceil_div(row_bytes, beat)
    if transpose:
        twice = row_bytes if unpack else 0                      # columns of bytes that take two cycles
        steps = beat + ceil_div(rows, beat) * (columns * beat + twice)
    else:
        steps = rows * ceil_div((1 + unpack) * row_bytes, beat)
    return LOAD_LATENCY + memory_latency + steps


def store_cycles(config: AcceleratorConfig, *, rows: int, row_bytes: int, memory_latency: int) -> int:
    """Return the cycles of a store command when nothing stalls, from the one that takes the command to the one of `done`.

    One cycle a beat; commands that are taken in time overlap but for their beats. `memory_latency` counts from the last beat of a
    burst to its response.
    """
    return STORE_LATENCY + rows * ceil_div(row_bytes, config.beat_bytes) + memory_latency
