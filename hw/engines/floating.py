"""The floating-point engine: what a config of it must be, and its cycle formulas.

R×C multipliers, M tokens, N outputs, K reduction.
"""

from hw.config import AcceleratorConfig, ceil_div, ceil_log2, ceil_power_of_two
from hw.engines.info import EngineInfo
from hw.errors import ConfigError
from hw.timing import ACCUMULATOR_LATENCY, FLOAT_ACCUMULATOR_LATENCY

__all__ = ["ADD_LATENCY", "COMMAND_LATENCY", "FLOAT", "OPERAND_LATENCY", "PRODUCT_LATENCY", "float_array_latency",
           "float_command_cycles", "float_command_latency"]

COMMAND_LATENCY = 3     # from the cycle in which a command is taken to its first preload slot
OPERAND_LATENCY = 2     # from the issue of a slot to the slot at the array's edge
PRODUCT_LATENCY = {"float16": 3, "bfloat16": 2}     # of a multiplier
ADD_LATENCY = 6         # of each level of the tree
_DONE = 1 + FLOAT_ACCUMULATOR_LATENCY - ACCUMULATOR_LATENCY     # from a command's last row to `done`


def float_array_latency(config: AcceleratorConfig) -> int:
    """Return the cycles from a slot at the array's edge to its row of sums: a product, and log2 R additions."""
    return PRODUCT_LATENCY[config.activation.name] + ceil_log2(config.rows) * ADD_LATENCY


def _group_cycles(config: AcceleratorConfig, m: int, k: int) -> tuple[int, int, int]:
    """Return the valid rows of the first tile along K, the cycles from its start to the last one's, and from there to the next.

    The next is the first tile of another group of outputs, or of another command.
    """
    first, *others = [min(config.rows, k - start) for start in range(0, k, config.rows)]
    cycles = waited = 0
    for rows in others:
        ready = max(m, rows - waited)           # streamed, and the next weights loaded, since the last tile was handed on
        cost = max(ready, FLOAT_ACCUMULATOR_LATENCY)
        cycles, waited = cycles + cost, cost - ready
    return first, cycles, max(m, first - waited)


def float_command_cycles(config: AcceleratorConfig, m: int, n: int, k: int) -> int:
    """Return the cycles from one command to the next in an unbroken run of such commands, operands never waiting.

    For each group of C outputs, tiles of up to R rows of K, of M slots each. A tile starts when the one before has streamed and
    its own R' weights are loaded, behind that or while that waits; and no row is added to before its last addition is done. So
    each tile costs max(M, R', 8), but the first of a group max(M, R') or less, down to M, where the one before it waited. That
    the first adds to other rows, or to none, than that one is taken for granted.
    """
    _, cycles, last = _group_cycles(config, m, k)
    return ceil_div(n, config.columns) * (cycles + last)


def float_command_latency(config: AcceleratorConfig, m: int, n: int, k: int) -> int:
    """Return the cycles of a command alone, from the one in which it is taken to `done`, operands never waiting.

    The first tile's weights are loaded first; then `float_command_cycles` to the start of the last tile, its slots, and the ways
    into the array and out of it.
    """
    first, _, last = _group_cycles(config, m, k)
    cycles = float_command_cycles(config, m, n, k) - last
    return COMMAND_LATENCY + first + cycles + m - 1 + OPERAND_LATENCY + float_array_latency(config) + _DONE


def _check(config: AcceleratorConfig) -> None:
    size = config.rows
    if size & size - 1 or size < 2:
        raise ConfigError("AcceleratorConfig.rows must be a power of two for the floating-point engine, at least 2 (nearest: "
                          f"{max(2, ceil_power_of_two(size))}), not {size!r}")
    if not config.float_activations:
        raise ConfigError("AcceleratorConfig.activation_format must be float16 or bfloat16 for the floating-point engine, not "
                          f"{config.activation_format!r}")
    if config.weight != config.activation:
        raise ConfigError("AcceleratorConfig.weight_format must be that of the activations for the floating-point engine, "
                          f"{config.activation_format!r}, not {config.weight_format!r}")
    if config.weight_formats:
        raise ConfigError(f"AcceleratorConfig.weight_formats must be empty for the floating-point engine, not "
                          f"{config.weight_formats!r}")
    if config.dataflows != ("ws",):
        raise ConfigError("AcceleratorConfig.dataflows must be ('ws',) for the floating-point engine, whose weights stay, not "
                          f"{config.dataflows!r}")
    mechanism = config.protection_of("engine.mesh")
    if mechanism != "none":
        raise ConfigError("AcceleratorConfig.protection must ask 'none' of engine.mesh for the floating-point engine, which has "
                          f"no mesh, not {mechanism!r}")


FLOAT = EngineInfo(
    name="float",
    doc="C columns of R multipliers of float16 or bfloat16, weight-stationary, added in trees and accumulated in float32",
    source="customary dot-product units; the baseline of Chen et al., BitMoD, HPCA 2025 (its datapath is not published)",
    model="float",
    check=_check, psum_width=lambda config: 32, peak_macs=lambda config: config.rows * config.columns,
    float_activations=True, float_weights=True)
