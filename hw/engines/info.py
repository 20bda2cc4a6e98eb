"""What the frame knows of a matrix engine besides its RTL: pure data and pure functions of a config."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hw.errors import ConfigError

if TYPE_CHECKING:
    from hw.config import AcceleratorConfig

__all__ = ["EngineInfo", "check_frame"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """An engine as config, tables and runtime see it.

    Attributes
    ----------
    name, doc, source : str
        What tables say of it.
    model : str
        Key under which its golden model (`sw.golden.array.MATRIX_MODELS`) and what the runtime knows of it (`sw.engines.ENGINES`)
        stand: its own name, or that of an engine that it behaves as.
    check : callable
        Raises `ConfigError` if a config cannot be built: its weight formats, dataflows and shape.
    psum_width : callable
        Bits of a word on its way from the engine to the accumulator.
    peak_macs : callable
        Multiply-accumulates that a cycle issues at most.
    weight_stream : bool
        Takes packed weights from the load unit too (`load.stream`), past the scratchpad.
    lane_rows : callable
        Whether columns of a result may go to different accumulator rows (`AccumulatorWritePort.offset`).
    tokens : callable
        Rows of activations below which the mapper makes no tiles.
    float_activations, float_weights : bool
        Whether activations, and plain weights, may be float16 or bfloat16 words.
    counters : tuple of str
        Names of `hw.regs.ENGINE_COUNTERS` that it has: outputs of the engine, how much each grows in a cycle, up to `columns`.
    fields : tuple of str
        Of the config's `hybrid_clusters` and `guard_bits`, those that it uses; what an engine does not use stays as it is by
        default.
    """

    name: str
    doc: str
    source: str
    model: str
    check: "Callable[[AcceleratorConfig], None]"
    psum_width: "Callable[[AcceleratorConfig], int]"
    peak_macs: "Callable[[AcceleratorConfig], int]"
    weight_stream: bool = False
    lane_rows: "Callable[[AcceleratorConfig], bool]" = lambda config: False
    tokens: "Callable[[AcceleratorConfig], int]" = lambda config: config.rows
    float_activations: bool = False
    float_weights: bool = False
    counters: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


def check_frame(config: "AcceleratorConfig", engine: str, *, dataflow: str, mesh: str) -> None:
    """Check what engines with formats of their own ask alike: weight-stationary, plain weights of int8, an unchecked array.

    Parameters
    ----------
    engine : str
        How errors name the engine.
    dataflow, mesh : str
        Why there is no other dataflow, and why its array cannot check itself: clauses that follow the engine's name.

    Raises
    ------
    ConfigError
        If the config asks for anything else.
    """
    if config.dataflows != ("ws",):
        raise ConfigError(f"AcceleratorConfig.dataflows must be ('ws',) for {engine}, {dataflow}, not {config.dataflows!r}")
    if config.weight_format != "int8":
        raise ConfigError(f"AcceleratorConfig.weight_format must be 'int8' for {engine} (others are weight_formats), not "
                          f"{config.weight_format!r}")
    mechanism = config.protection_of("engine.mesh")
    if mechanism != "none":
        raise ConfigError(f"AcceleratorConfig.protection must ask 'none' of engine.mesh for {engine}, {mesh}, not {mechanism!r}")
