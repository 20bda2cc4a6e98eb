"""What the frame knows of a matrix engine besides its RTL: pure data and pure functions of a config."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hw.config import AcceleratorConfig

__all__ = ["EngineInfo"]


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
    """

    name: str
    doc: str
    source: str
    model: str
    check: "Callable[[AcceleratorConfig], None]"
    psum_width: "Callable[[AcceleratorConfig], int]"
    peak_macs: "Callable[[AcceleratorConfig], int]"
    weight_stream: bool = False
