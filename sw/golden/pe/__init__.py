"""Golden models of the processing elements; keys as in `hw.pe.PE_TYPES`."""

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.plugins import Registry
from sw.golden.pe.base import PEModel, SlotControl
from sw.golden.pe.mac import MacModel

__all__ = ["PE_MODELS", "PEModel", "SlotControl", "pe_model"]

PE_MODELS: Registry[type[PEModel]] = Registry("pe_models", {
    "mac": MacModel,
})


def pe_model(config: AcceleratorConfig) -> PEModel:
    """Return the model of one PE of `config`.

    Raises
    ------
    ConfigError
        If the config names a PE that has none; the text lists those that have.
    """
    if config.pe not in PE_MODELS:
        raise ConfigError(f"AcceleratorConfig.pe must be one of {', '.join(PE_MODELS)}, not {config.pe!r}")
    return PE_MODELS[config.pe]((), psum_width=config.psum_width)
