"""The smallest board that does something: what the tests of boards run on."""

from hw.bridge.config import BoardConfig
from hw.config import AcceleratorConfig

__all__ = ["MEMORY", "TINY", "TINY_BOARD"]

MEMORY = 16384
TINY = AcceleratorConfig(rows=2, columns=2, vector_lanes=2, bus_width=64, scratchpad_bytes=2048, scratchpad_banks=2,
                         accumulator_rows=32, outstanding_reads=4, queue_depth=2, command_lines=4, os_depth=16)
TINY_BOARD = BoardConfig(memory_bytes=MEMORY, baud=6_250_000, timeout_cycles=4000)
