"""Matrix engines as pure data: what each can be built with, and its cycle formulas, the one place where they stand."""

from hw.engines.bitmod import BITMOD
from hw.engines.bitvert import BITVERT, STRIPES
from hw.engines.dstc import DSTC
from hw.engines.floating import FLOAT
from hw.engines.hss import HSS, STC, TASD, TC
from hw.engines.hybrid import HYBRID
from hw.engines.info import EngineInfo
from hw.engines.systolic import SYSTOLIC
from hw.plugins import Registry

__all__ = ["ENGINES", "EngineInfo"]

ENGINES: Registry[EngineInfo] = Registry("engine_infos", {
    info.name: info for info in (SYSTOLIC, BITMOD, BITVERT, STRIPES, HSS, STC, TC, TASD, DSTC, HYBRID, FLOAT)})
"""Name of an engine, as `AcceleratorConfig.engine` gives it → what the frame knows of it; `hw.array.ENGINES` builds it."""
