"""Cycle formulas of the systolic engine, and what a config of it must be.

T tiles are R×C tiles of stationary operand; M, N, K as everywhere: M tokens, N outputs, K reduction.
"""

from hw.config import AcceleratorConfig, ceil_div, ceil_log2
from hw.engines.info import EngineInfo
from hw.errors import ConfigError
from hw.isa import Dataflow

__all__ = [
    "COMMAND_LATENCY", "OPERAND_LATENCY", "RESULT_LATENCY", "SYSTOLIC", "matrix_command_cycles", "matrix_command_latency",
    "os_cycles", "scale_sim_os_fold", "scale_sim_ws_fold", "ws_cycles",
]

# The systolic engine around its mesh.
COMMAND_LATENCY = 3     # from the cycle in which a command is taken to its first preload slot (OS: one more to its first slot)
OPERAND_LATENCY = 2     # from the issue of a slot (its reads are granted) to the slot on the mesh's input
RESULT_LATENCY = 1      # from a command's last result row to `done`


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


def _check(config: AcceleratorConfig) -> None:
    if config.weight_formats:
        raise ConfigError("AcceleratorConfig.weight_formats must be empty for the systolic engine, not "
                          f"{config.weight_formats!r}")


def _psum_width(config: AcceleratorConfig) -> int:
    """Return bits in which neither R rows nor `os_depth` steps can overflow."""
    depth = max(config.rows, config.os_depth if "os" in config.dataflows else 1)
    return config.activation.bits + config.weight.bits + ceil_log2(depth)


SYSTOLIC = EngineInfo(
    name="systolic",
    doc="R×C mesh, weight- and output-stationary by command, stationary operand double-buffered",
    source="Gemmini, TPU v1; cycle formula verified by simulation (generalized here to R×C)",
    model="systolic",
    check=_check, psum_width=_psum_width, peak_macs=lambda config: config.rows * config.columns)


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
