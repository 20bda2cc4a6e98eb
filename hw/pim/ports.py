"""Ports by which the blocks of the logic die and the DRAM above it meet."""

from enum import IntEnum

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.pim.timing_tables import DramCommand

__all__ = ["DramPort", "RowJob", "row_job_layout", "side_port", "write_burst_layout"]

_COMMAND_WIDTH = ceil_log2(len(DramCommand))


class RowJob(IntEnum):
    """Values of `kind` of a job of the row engine."""

    BURSTS = 0      # read or write bursts
    OPEN = 1        # have the row open
    CLOSE = 2       # have no row open
    REFRESH = 3     # refresh the set's rank, or with refreshes bank by bank the set; its rows are closed first


def row_job_layout(*, sets: int, rows: int, columns: int) -> data.StructLayout:
    """Return the layout of a job of the row engine: bursts of one row of one set of banks.

    set, row, column: where; bursts: of them after the first one; write: they are written; kind: a `RowJob`, other than BURSTS
    without any.
    """
    return data.StructLayout({"set": ceil_log2(sets), "row": ceil_log2(rows), "column": ceil_log2(columns),
                              "bursts": ceil_log2(columns), "write": 1, "kind": 2})


def write_burst_layout(streams: int, burst_bytes: int) -> data.StructLayout:
    """Return the layout of a burst of all streams to be written: `data`, and in `mask` which streams are."""
    return data.StructLayout({"data": 8 * burst_bytes * streams, "mask": streams})


def side_port(words: int, word: int) -> wiring.Signature:
    """Return the port by which bytes of the side table are written, `word` at once."""
    return wiring.Signature({"valid": Out(1), "word": Out(ceil_log2(words)), "mask": Out(word), "data": Out(8 * word)})


class DramPort(wiring.Signature):
    """Commands to the DRAM of one pseudo-channel, and its data (directions of the controller).

    In a cycle of the PIM clock there is at most one row command and one column command; `phase` says in which of the DRAM clocks
    of that cycle each goes out, as in the DFI of DRAM controllers. Neither can be refused, and read data cannot be held back:
    they come CL + BL clocks after their command, in order.

    Members
    -------
    row_valid, row_op, row_set, row_bank, row_whole, row_row, row_phase : Out
        A row command (`DramCommand`): ACT or ACTM opens row `row_row` of set `row_set`; PRE closes the rows of the set, or with
        `row_whole` those of its rank; REFSB is for bank `row_bank` of the set, REF for the rank of that bank.
    col_valid, col_op, col_set, col_column, col_phase : Out
        A column command: RD, MAC or WR of one burst of each bank of the set.
    wdata, wmask : Out
        With WR: the burst, and which streams are written.
    rvalid : In(1), rdata : In(8·burst_bytes·streams)
        A burst of all streams; its stream s in bits 8·burst_bytes·s on.
    """

    def __init__(self, *, streams: int, burst_bytes: int, sets: int, rows: int, columns: int, phases: int):
        super().__init__({
            "row_valid": Out(1), "row_op": Out(_COMMAND_WIDTH), "row_set": Out(ceil_log2(sets)),
            "row_bank": Out(ceil_log2(streams)), "row_whole": Out(1), "row_row": Out(ceil_log2(rows)),
            "row_phase": Out(ceil_log2(phases)),
            "col_valid": Out(1), "col_op": Out(_COMMAND_WIDTH), "col_set": Out(ceil_log2(sets)),
            "col_column": Out(ceil_log2(columns)), "col_phase": Out(ceil_log2(phases)),
            "wdata": Out(8 * burst_bytes * streams), "wmask": Out(streams),
            "rvalid": In(1), "rdata": In(8 * burst_bytes * streams),
        })
