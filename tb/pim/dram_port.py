"""The DRAM model behind a `DramPort`, for benches in Amaranth's simulator and in others."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from hw.pim.timing_tables import DramCommand
from sw.pim.dram import DramChannel

__all__ = ["COLUMN_MEMBERS", "ROW_MEMBERS", "DramModel", "Issued"]

ROW_MEMBERS = ("row_valid", "row_op", "row_set", "row_bank", "row_whole", "row_row", "row_phase")
COLUMN_MEMBERS = ("col_valid", "col_op", "col_set", "col_column", "col_phase", "wdata", "wmask")
"""Members of a `DramPort`, as `DramModel.step` takes their values."""


class Issued(NamedTuple):
    """A command as it was seen: DRAM clock, what, which set of banks, row or column."""

    at: int
    command: DramCommand
    set: int
    where: int


class DramModel:
    """Serves a `DramPort`: every command goes through the timing checker, and reads come back in time.

    Parameters
    ----------
    dram : DramChannel
    streams : int
        Banks of a set.
    phases : int
        DRAM clocks in a cycle.

    Attributes
    ----------
    log : list of Issued
    cycle : int
    """

    def __init__(self, dram: DramChannel, *, streams: int, phases: int):
        self.dram, self.streams, self.phases = dram, streams, phases
        self.log: list[Issued] = []
        self.cycle = 0

    def banks(self, index: int) -> list[int]:
        """Return the banks of a set."""
        return list(range(index * self.streams, (index + 1) * self.streams))

    def burst(self, index: int, row: int, column: int) -> Any:
        """Return the bytes of a burst of all streams of a set, (streams·burst_bytes,), as a copy."""
        return np.concatenate([self.dram.row(bank, row)[column] for bank in self.banks(index)])

    def fill(self, index: int, row: int, column: int, payload: Any) -> None:
        """Put the bytes of a burst of all streams into a set."""
        parts = np.asarray(payload, np.uint8).reshape(self.streams, -1)
        for bank, part in zip(self.banks(index), parts, strict=True):
            self.dram.row(bank, row)[column] = part

    def times(self, *commands: DramCommand) -> list[int]:
        """Return when any of `commands` was issued."""
        return [issued.at for issued in self.log if issued.command in commands]

    def step(self, row: Sequence[int], column: Sequence[int]) -> int | None:
        """Take what the port says in one cycle, the members in order; return the burst of the next cycle, or None."""
        start = self.cycle * self.phases
        commands = [*self._row(start, *row), *self._column(start, *column)]
        for issued, banks, more in sorted(commands, key=lambda item: item[0].at):
            self.log.append(issued)
            self.dram.command(issued.at, issued.command, banks, **more)
        self.cycle += 1
        self.dram.check_deadline(self.cycle * self.phases)
        if not self.dram.returned or self.dram.returned[0][0] > self.cycle * self.phases:
            return None
        _, _, bursts = self.dram.returned.popleft()
        return int.from_bytes(bursts.tobytes(), "little")

    async def serve(self, ctx: Any, port: Any) -> None:
        """Run as a background testbench of Amaranth's simulator."""
        row, column = ([getattr(port, name) for name in names] for names in (ROW_MEMBERS, COLUMN_MEMBERS))
        async for _, _, *values in ctx.tick().sample(*row, *column):
            burst = self.step(values[:len(row)], values[len(row):])
            ctx.set(port.rvalid, burst is not None)
            if burst is not None:
                ctx.set(port.rdata, burst)

    def _row(self, start: int, valid: int, op: int, index: int, bank: int, whole: int, row: int, phase: int) -> Iterator[Any]:
        if valid:
            command = DramCommand(op)
            rank = self.dram.timing.all_banks // self.dram.timing.ranks
            banks = self.banks(index)
            if command is DramCommand.REFSB:
                banks = [banks[bank]]
            elif whole or command is DramCommand.REF:
                first = banks[bank] // rank * rank
                banks = list(range(first, first + rank))
            yield Issued(start + phase, command, index, row), banks, {"row": row}

    def _column(self, start: int, valid: int, op: int, index: int, column: int, phase: int, wdata: int,
                wmask: int) -> Iterator[Any]:
        if valid:
            banks = self.banks(index)
            size = self.dram.timing.burst_bytes
            data = np.frombuffer(wdata.to_bytes(size * len(banks), "little"), np.uint8).reshape(len(banks), size)
            yield (Issued(start + phase, DramCommand(op), index, column), banks,
                   {"column": column, "data": data, "mask": [bool(wmask >> i & 1) for i in range(len(banks))]})
