"""Each matrix engine's modes, and its cycle formulas: the one place where they stand.

T tiles are R×C tiles of stationary operand; M, N, K as everywhere: M tokens, N outputs, K reduction.
"""

from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div

__all__ = ["ENGINES", "EngineInfo", "os_cycles", "os_tiles", "scale_sim_os_fold", "scale_sim_ws_fold", "ws_cycles", "ws_tiles"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What tables say of an engine."""

    name: str
    doc: str
    source: str


ENGINES: dict[str, EngineInfo] = {
    "systolic": EngineInfo(
        name="systolic",
        doc="R×C mesh, weight- and output-stationary by command, stationary operand double-buffered",
        source="Gemmini, TPU v1; cycle formula verified by simulation (generalized here to R×C)"),
}


def ws_tiles(config: AcceleratorConfig, n: int, k: int) -> int:
    """Return the number of weight tiles of a K×N operand: ⌈K/R⌉·⌈N/C⌉."""
    return ceil_div(k, config.rows) * ceil_div(n, config.columns)


def os_tiles(config: AcceleratorConfig, m: int, n: int) -> int:
    """Return the number of output tiles of an M×N result: ⌈M/R⌉·⌈N/C⌉."""
    return ceil_div(m, config.rows) * ceil_div(n, config.columns)


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

    Conversion: it counts one cycle less than `ws_cycles(…, tiles=1)`, which counts the register at the array's foot too.
    """
    return m + 2 * rows + columns - 2


def scale_sim_os_fold(rows: int, columns: int, k: int) -> int:
    """Return SCALE-Sim's cycles of one output-stationary fold, K + R + C − 2.

    Conversion: it stops at the last multiply-accumulate of the last PE; `os_cycles(…, tiles=1)` goes on until the last result
    has left through the foot, R + 1 cycles later.
    """
    return k + rows + columns - 2
