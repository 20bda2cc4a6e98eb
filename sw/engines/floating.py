"""The floating-point engine as the runtime sees it: plain float16 or bfloat16 weights, and when its commands are done."""

from collections.abc import Mapping

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.floating import COMMAND_LATENCY, OPERAND_LATENCY, float_array_latency
from hw.timing import ACCUMULATOR_LATENCY, FLOAT_ACCUMULATOR_LATENCY
from sw.engines.plain import pack_plain, plain_layout, slots_share_a_bank
from sw.engines.runtime import EngineRuntime

__all__ = ["FLOAT", "FloatTiming"]


class FloatTiming:
    """Tiles back to back, as `hw.engines.floating.float_command_cycles` says, and what passes from command to command.

    Attributes
    ----------
    next : float
        Cycle in which another command can be taken.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.next = 0.0
        self.streamed = 0.0         # cycle after the last slot issued
        self.handed = 0.0           # cycle in which the last tile was handed to the columns, so that the next one is loaded
        self.stream_start = 0.0     # cycle in which it began to stream
        self.rows = range(0)        # accumulator rows of that tile

    def command(self, at: float, fields: Mapping[str, int]) -> float:
        """Return the cycle of `done` of a command that is taken at `at`."""
        config, m, k = self.config, fields["m"], fields["k"]
        tiles = [min(config.rows, k - start) for start in range(0, k, config.rows)]
        shared = slots_share_a_bank(config, fields)
        handed_before = self.handed             # of the tile before the last one
        self.handed = max(at + COMMAND_LATENCY, self.handed)
        for group in range(ceil_div(fields["n"], config.columns)):
            first = fields["acc_addr"] + group * fields["acc_tile_stride"]
            rows = range(first, first + m)
            for index, valid in enumerate(tiles):
                handed_before = self.handed if group or index else handed_before
                # In one bank weights wait until no activation is read.
                loading = max(self.handed, self.streamed) if shared else self.handed
                self.handed = start = max(self.streamed, loading + valid)
                if (fields["accumulate"] or index) and rows.start < self.rows.stop and self.rows.start < rows.stop:
                    start = max(start, self.stream_start + self.rows.start - rows.start + FLOAT_ACCUMULATOR_LATENCY)
                self.stream_start, self.streamed, self.rows = start, start + m, rows
        self.next = max(at + 2, handed_before + 1)
        latency = OPERAND_LATENCY + float_array_latency(config) + 1 + FLOAT_ACCUMULATOR_LATENCY - ACCUMULATOR_LATENCY
        return self.streamed - 1 + latency


FLOAT = EngineRuntime(timing=FloatTiming, layout=plain_layout, pack=pack_plain)
