"""The systolic engine as the runtime sees it: when its commands are done, and how plain weights lie."""

import operator
from collections.abc import Mapping

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.systolic import COMMAND_LATENCY, OPERAND_LATENCY, RESULT_LATENCY
from hw.isa import Dataflow
from sw.engines.plain import pack_plain, plain_layout, slots_share_a_bank
from sw.engines.runtime import EngineRuntime

__all__ = ["SYSTOLIC", "SystolicTiming"]


class SystolicTiming:
    """Tiles back to back, as `hw.engines.systolic.matrix_command_cycles` says, and what passes from command to command.

    Attributes
    ----------
    next : float
        Cycle in which another command can be taken.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.next = 0.0
        self.streamed = 0.0         # cycle after the last slot issued
        self.stream_start = 0.0     # cycle in which the last tile began to stream
        self.drained = 0.0          # when the last output-stationary tile has left the psum chain

    def command(self, at: float, fields: Mapping[str, int]) -> float:
        """Return the cycle of `done` of a command that is taken at `at`."""
        before = self.stream_start
        tiles, last_cost = (self._ws if fields["dataflow"] == Dataflow.WS else self._os)(at, fields)
        # The next command is taken when the last tile has been handed on, that is, when the one before it began to stream.
        self.next = max(at + 2, (self.stream_start - last_cost if tiles > 1 else before) + 1)
        last_row = self.streamed if fields["dataflow"] == Dataflow.WS else self.drained
        return last_row + self.config.rows + self.config.columns - 2 + OPERAND_LATENCY + RESULT_LATENCY

    def _ws(self, at: float, fields: Mapping[str, int]) -> tuple[int, int]:
        """Stream a weight-stationary command; return its tiles and the cycles of the last one."""
        rows, m, k = self.config.rows, fields["m"], fields["k"]
        # In one bank weights wait until no activation is read.
        cost = operator.add if slots_share_a_bank(self.config, fields) else max
        first_rows, last_rows = min(k, rows), (k - 1) % rows + 1
        groups, k_groups = ceil_div(fields["n"], self.config.columns), ceil_div(k, rows)
        loaded = max(at + COMMAND_LATENCY, self.stream_start) + first_rows
        start = max(self.streamed, loaded, self.drained)
        whole = groups * ((k_groups - 1) * cost(m, rows) + cost(m, last_rows))
        self.streamed = start + whole - cost(m, first_rows) + m
        self.stream_start = self.streamed - m
        return groups * k_groups, cost(m, last_rows)

    def _os(self, at: float, fields: Mapping[str, int]) -> tuple[int, int]:
        """Stream an output-stationary command; return its tiles and the cycles of the last one."""
        rows, depth, k = self.config.rows, self.config.os_depth, fields["k"]
        # In one bank the operands of a step are read in turn.
        slots = 2 if slots_share_a_bank(self.config, fields) else 1
        first_run, last_run, runs = slots * min(k, depth), slots * ((k - 1) % depth + 1), ceil_div(k, depth)
        results = ceil_div(fields["n"], self.config.columns) * ceil_div(fields["m"], rows)
        whole = (runs - 1) * max(slots * depth, rows) + max(last_run, rows)
        first_end = max(max(self.streamed, at + COMMAND_LATENCY + 1) + first_run, self.drained)
        self.streamed = first_end + results * whole - max(first_run, rows)
        self.stream_start = self.streamed - last_run
        self.drained = self.streamed + rows
        return results * runs, max(last_run, rows)


SYSTOLIC = EngineRuntime(timing=SystolicTiming, layout=plain_layout, pack=pack_plain)
