"""Matrix engines as the runtime sees them: the registry; keys as `model` of `hw.engines.ENGINES`."""

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.plugins import Registry
from sw.engines.runtime import EngineRuntime
from sw.engines.systolic import SYSTOLIC

__all__ = ["ENGINES", "engine_runtime"]

ENGINES: Registry[EngineRuntime] = Registry("engine_runtimes", {
    "systolic": SYSTOLIC,
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
