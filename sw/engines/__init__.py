"""Matrix engines as the runtime sees them: the registry; keys as `model` of `hw.engines.ENGINES`."""

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.plugins import Registry
from sw.engines.bitmod import BITMOD
from sw.engines.bitvert import BITVERT
from sw.engines.dstc import DSTC
from sw.engines.floating import FLOAT
from sw.engines.hss import HSS_RUNTIME
from sw.engines.hybrid import HYBRID
from sw.engines.runtime import EngineRuntime, WeightLayout
from sw.engines.systolic import SYSTOLIC

__all__ = ["ENGINES", "default_weights", "engine_runtime", "known_weights", "pack_weights", "weight_layout"]

ENGINES: Registry[EngineRuntime] = Registry("engine_runtimes", {
    "systolic": SYSTOLIC,
    "hss": HSS_RUNTIME,
    "dstc": DSTC,
    "bitmod": BITMOD,
    "bitvert": BITVERT,
    "hybrid": HYBRID,
    "float": FLOAT,
})


def engine_runtime(config: AcceleratorConfig) -> EngineRuntime:
    """Return what the runtime knows of the engine of `config`.

    Raises
    ------
    ConfigError
        If its engine is not registered, or the runtime does not know it; the text lists those that it knows.
    """
    info = config.engine_info
    if info is None:
        raise ConfigError(f"AcceleratorConfig.engine must be the name of a registered engine, not {config.engine!r}")
    if info.model not in ENGINES:
        raise ConfigError(f"EngineInfo.model must be one of {', '.join(ENGINES)}, not {info.model!r}")
    return ENGINES[info.model]


def default_weights(config: AcceleratorConfig) -> str:
    """Return the format of constant weights for which nothing else is asked: the config's first packed one, or plain ones."""
    return config.weight_formats[0] if config.weight_formats else config.weight_format


def known_weights(config: AcceleratorConfig) -> tuple[str, ...]:
    """Return the formats that constant weights can have, each once: plain ones, then the config's packed ones."""
    return tuple(dict.fromkeys((config.weight_format, *config.weight_formats)))


def weight_layout(config: AcceleratorConfig, n: int, k: int, weights: str = "") -> WeightLayout:
    """Return how constant weights (N, K) lie for the engine of `config`.

    Parameters
    ----------
    weights : str
        One of `config.weight_formats`; "" or `config.weight_format`: plain ones.

    Raises
    ------
    ConfigError
        If the config does not have this format, or a chunk of such weights would not start at a beat.
    """
    known = known_weights(config)
    if weights and weights not in known:
        raise ConfigError(f"weights must be in one of {', '.join(known)} for this config, not {weights!r}")
    mode = config.weight_formats.index(weights) + 1 if weights in config.weight_formats else 0
    return engine_runtime(config).layout(config, mode, n, k)


def pack_weights(config: AcceleratorConfig, layout: WeightLayout,
                 matrix: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return the bytes of finite weights (N, K), rounded to the layout's format, and each output's scale, (N,) float32."""
    return engine_runtime(config).pack(config, layout, matrix)
