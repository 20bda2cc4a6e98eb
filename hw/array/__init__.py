"""Matrix engines: the registry. An engine is a component made from an `AcceleratorConfig`, with the ports of docs/frame.md."""

from collections.abc import Callable
from typing import Any

from hw.array.bitmod_engine import BitmodEngine
from hw.array.bitvert_engine import BitvertEngine
from hw.array.dstc_engine import DstcEngine
from hw.array.float_engine import FloatEngine
from hw.array.hss import HssEngine
from hw.array.hybrid import HybridEngine
from hw.array.systolic import SystolicEngine
from hw.array.tasd import TasdEngine
from hw.config import AcceleratorConfig
from hw.plugins import Registry

__all__ = ["ENGINES"]

ENGINES: Registry[Callable[[AcceleratorConfig], Any]] = Registry("engines", {
    "systolic": SystolicEngine,
    "bitmod": BitmodEngine,
    "bitvert": BitvertEngine,
    "stripes": BitvertEngine,
    "hybrid": HybridEngine,
    "hss": HssEngine,
    "stc": HssEngine,
    "tc": HssEngine,
    "tasd": TasdEngine,
    "dstc": DstcEngine,
    "float": FloatEngine,
})
"""Name of each engine, as `AcceleratorConfig.engine` gives it → what builds it."""
