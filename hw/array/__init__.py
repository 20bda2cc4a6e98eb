"""Matrix engines: the registry. An engine is a component made from an `AcceleratorConfig`, with the ports of docs/frame.md."""

from collections.abc import Callable
from typing import Any

from hw.array.systolic import SystolicEngine
from hw.config import AcceleratorConfig

__all__ = ["ENGINES"]

ENGINES: dict[str, Callable[[AcceleratorConfig], Any]] = {
    "systolic": SystolicEngine,
}
"""Name of each engine, as `AcceleratorConfig.engine` gives it → what builds it."""
