"""Each matrix engine's modes, and its cycle formulas: the one place where they stand.

T tiles are R×C tiles of stationary operand; M, N, K as everywhere: M tokens, N outputs, K reduction.
"""

from dataclasses import dataclass
from math import ceil

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import Dataflow
from hw.plugins import Registry

__all__ = [
    "BITMOD_TERMS", "COMMAND_LATENCY", "ENGINES", "OPERAND_LATENCY", "RESULT_LATENCY", "EngineInfo", "bitmod_cycles",
    "bitmod_paper_layer", "matrix_command_cycles", "matrix_command_latency", "os_cycles", "scale_sim_os_fold",
    "scale_sim_ws_fold", "ws_cycles",
]

# The systolic engine around its mesh.
COMMAND_LATENCY = 3     # from the cycle in which a command is taken to its first preload slot (OS: one more to its first slot)
OPERAND_LATENCY = 2     # from the issue of a slot (its reads are granted) to the slot on the mesh's input
RESULT_LATENCY = 1      # from a command's last result row to `done`

BITMOD_TERMS = {"int8": 4, "int6": 3, "int5": 3, "int4": 2, "int3": 2, "fp4": 2, "fp3": 2}
"""Bit-serial terms of a weight, and so cycles for four of them in a BitMoD PE."""
_BITMOD_LANES = 4
_BITMOD_BUFFER_BYTES = 512 * 1024       # weight buffer and activation buffer of the paper, each
_BITMOD_DRAM_BITS = 256                 # a cycle, in the authors' model: 128 pins, both edges


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What tables say of an engine."""

    name: str
    doc: str
    source: str


ENGINES: Registry[EngineInfo] = Registry("engine_infos", {
    "systolic": EngineInfo(
        name="systolic",
        doc="R×C mesh, weight- and output-stationary by command, stationary operand double-buffered",
        source="Gemmini, TPU v1; cycle formula verified by simulation (generalized here to R×C)"),
})


def ws_cycles(rows: int, columns: int, tiles: int, m: int, serialize: bool = False) -> int:
    """Return the cycles of T back-to-back weight-stationary tiles of `m` rows each.

    Counted at the array's edge, from the cycle in which the first preload row enters to the one in which the last result leaves,
    both included: 2R + C + (T−1)·max(M,R) + M − 1. For R = C = N it is the square mesh's 3N + (T−1)·max(M,N) + M − 1.
    With `serialize`, each tile waits for the last result of the one before: T·(M + 2R + C − 1).
    """
    if serialize:
        return tiles * (m + 2 * rows + columns - 1)
    return 2 * rows + columns + (tiles - 1) * max(m, rows) + m - 1


def os_cycles(rows: int, columns: int, tiles: int, k: int, serialize: bool = False) -> int:
    """Return the cycles of T back-to-back output-stationary tiles of `k` steps each.

    Counted as for `ws_cycles`, drain included: 2R + C + (T−1)·max(K,R) + K − 1; no preload, but R rows of drain. With
    `serialize`, T·(K + 2R + C − 1).
    """
    if serialize:
        return tiles * (k + 2 * rows + columns - 1)
    return 2 * rows + columns + (tiles - 1) * max(k, rows) + k - 1


def scale_sim_ws_fold(rows: int, columns: int, m: int) -> int:
    """Return SCALE-Sim's cycles of one weight-stationary fold, M + 2R + C − 2.

    Conversion: it counts one cycle less than `ws_cycles(…, tiles=1)`, which counts the register at the array's foot too. A
    command with `serialize` therefore takes ⌈K/R⌉·⌈N/C⌉ folds of this + 1 cycle, whatever M, N and K.
    """
    return m + 2 * rows + columns - 2


def scale_sim_os_fold(rows: int, columns: int, k: int) -> int:
    """Return SCALE-Sim's cycles of one output-stationary fold, K + R + C − 2.

    Conversion: it stops at the last multiply-accumulate of the last PE; `os_cycles(…, tiles=1)` goes on until the last result
    has left through the foot, R + 1 cycles later. A command with `serialize` and K ≤ os_depth therefore takes ⌈M/R⌉·⌈N/C⌉ folds
    of this + R + 1 cycles, whatever M, N and K.
    """
    return k + rows + columns - 2


def _tile_slots(config: AcceleratorConfig, m: int, n: int, k: int, dataflow: Dataflow) -> list[tuple[int, int, int]]:
    """Return (tiles, slots streamed, slots preloaded or drained) for each kind of tile of a command: the first kind comes first.

    Weight-stationary tiles preload their valid rows only, unless serialized; output-stationary tiles always drain R rows.
    """
    columns = ceil_div(n, config.columns)
    depth, along = (config.rows, k) if dataflow == Dataflow.WS else (config.os_depth, k)
    kinds = [(along // depth, depth), (1, along % depth)]
    if dataflow == Dataflow.WS:
        return [(columns * count, m, size) for count, size in kinds if count and size]
    results = columns * ceil_div(m, config.rows)
    return [(results * count, size, config.rows) for count, size in kinds if count and size]


def matrix_command_cycles(config: AcceleratorConfig, m: int, n: int, k: int, dataflow: Dataflow, serialize: bool = False) -> int:
    """Return the cycles from one command to the next in an unbroken run of such commands, operands never waiting.

    A WS tile costs max(M, valid rows of K), since the next one's preload hides behind it; an OS tile costs max(steps, R), since
    the last one's drain hides behind it. Where the last tile of a command is shorter than COMMAND_LATENCY, up to
    COMMAND_LATENCY − 1 cycles more. With `serialize`, each tile costs what `ws_cycles` and `os_cycles` say of a single one,
    always: a WS tile then preloads R rows, those past K idle.

    After another command: a WS tile streams once the tile before it has streamed and its own rows are preloaded, which
    starts when the tile before it starts to stream (after an OS tile: when that has streamed, and R slots of drain pass first).
    """
    kinds = _tile_slots(config, m, n, k, dataflow)
    if serialize:
        return sum(tiles * (streamed + 2 * config.rows + config.columns - 1) for tiles, streamed, _ in kinds)
    return sum(tiles * max(streamed, other) for tiles, streamed, other in kinds)


def matrix_command_latency(config: AcceleratorConfig, m: int, n: int, k: int, dataflow: Dataflow, serialize: bool = False) -> int:
    """Return the cycles of a command alone, from the one in which it is taken to `done`, operands never waiting.

    To `matrix_command_cycles` come what nothing hides, the first preload (WS) or the last drain (OS), and the ways into the array
    and out of it.
    """
    first_slot = COMMAND_LATENCY + (dataflow == Dataflow.OS) + OPERAND_LATENCY
    cycles = matrix_command_cycles(config, m, n, k, dataflow, serialize)
    if serialize:
        return first_slot + cycles - 1 + RESULT_LATENCY
    _, streamed, other = _tile_slots(config, m, n, k, dataflow)[0]
    return first_slot + cycles + min(streamed, other) + config.rows + config.columns - 2 + RESULT_LATENCY


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
