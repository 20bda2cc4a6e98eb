"""Golden models of the matrix engines; keys as `model` of `hw.engines.ENGINES`."""

from collections.abc import Callable

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.plugins import Registry
from sw.golden.array import bitmod, bitvert, dstc, floating, hss, hybrid, systolic
from sw.golden.state import Fields, State

__all__ = ["MATRIX_MODELS", "matrix_model"]

MATRIX_MODELS: Registry[Callable[[State, Fields], None]] = Registry("matrix_models", {
    "systolic": systolic.run_matrix,
    "hss": hss.run_matrix,
    "dstc": dstc.run_matrix,
    "bitmod": bitmod.run_matrix,
    "bitvert": bitvert.run_matrix,
    "hybrid": hybrid.run_matrix,
    "float": floating.run_matrix,
})
"""Name of each engine → what a matrix command does to scratchpad, accumulator and counters; it raises `Refusal`."""


def matrix_model(config: AcceleratorConfig) -> Callable[[State, Fields], None]:
    """Return the model of the engine of `config`.

    Raises
    ------
    ConfigError
        If its engine is not registered, or has no golden model; the text lists those that have.
    """
    info = config.engine_info
    if info is None:
        raise ConfigError(f"AcceleratorConfig.engine must be the name of a registered engine, not {config.engine!r}")
    if info.model not in MATRIX_MODELS:
        raise ConfigError(f"EngineInfo.model must be one of {', '.join(MATRIX_MODELS)}, not {info.model!r}")
    return MATRIX_MODELS[info.model]
