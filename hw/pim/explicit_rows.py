"""Rows as ACT and PRE open and close them in MODE 1: which commands they forbid."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.pim.config import PimConfig
from hw.pim.footprint import command_layout
from hw.pim.isa import PimOpcode
from hw.pim.job_maker import BURST_OPCODES

__all__ = ["ExplicitRows"]

_SETS_LOG2 = 4              # of the sets that `grp` names


class ExplicitRows(wiring.Component):
    """Follows MODE, ACT and PRE as they are given out, in the order of the list.

    It says what is against the rules; that what goes to the DRAM keeps to them is the row engine's affair, which opens what is
    closed, after a refresh too.

    Parameters
    ----------
    config : PimConfig

    Members
    -------
    command : In(`command_layout`), token_set, token_row : In
        What is offered; of KVAP its place.
    wrong : Out(1)
        In MODE 1: bursts of a row that is not open, ACT of a set that has a row open, REF where one is open.
    issued : In(1)
        The command is taken.
    clear : In(1)
        MODE 0.
    explicit : Out(1)
        MODE 1.
    """

    def __init__(self, config: PimConfig):
        self._config = config
        super().__init__({"command": In(command_layout()), "token_set": In(_SETS_LOG2), "token_row": In(16), "wrong": Out(1),
                          "issued": In(1), "clear": In(1), "explicit": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, command, sets = self._config, self.command, self._config.row_sets
        width = ceil_log2(config.dram_rows)
        named, index, row = Signal(range(max(2, sets))), Signal(range(max(2, sets))), Signal(16)
        m.d.comb += [named.eq(command.grp), row.eq(command.row), index.eq(named)]
        if sets > 1 << _SETS_LOG2:                          # rows beyond the last are of the next 16 sets
            m.d.comb += [named.eq(Cat(command.grp, command.row[width:])), row.eq(command.row[:width])]
        is_token = command.op == PimOpcode.KVAP
        with m.If(is_token):
            m.d.comb += [index.eq(self.token_set), row.eq(self.token_row)]
        opened = Signal(sets)
        rows = Array(Signal(16, name=f"row_{number}") for number in range(sets))
        units = sets if config.refresh == "same-bank" else min(config.dram.ranks, sets)
        each = sets // units
        members = Signal(sets)                              # sets that a REF refreshes
        for number in range(sets):
            m.d.comb += members[number].eq(named >> ceil_log2(each) == number // each)
        has_bursts = is_token | Cat(command.op == op for op in BURST_OPCODES).any()
        is_open = opened.bit_select(index, 1)
        m.d.comb += self.wrong.eq(self.explicit & (
            (has_bursts & ~(is_open & (rows[index] == row)))
            | ((command.op == PimOpcode.ACT) & is_open) | ((command.op == PimOpcode.REF) & (opened & members).any())))
        with m.If(self.clear):
            m.d.sync += [self.explicit.eq(0), opened.eq(0)]
        with m.Elif(self.issued):
            with m.Switch(command.op):
                with m.Case(PimOpcode.MODE):
                    m.d.sync += [self.explicit.eq(command.cnt[0]), opened.eq(0)]
                with m.Case(PimOpcode.ACT):
                    m.d.sync += [opened.bit_select(index, 1).eq(1), rows[index].eq(row)]
                with m.Case(PimOpcode.PRE):
                    m.d.sync += opened.bit_select(index, 1).eq(0)
        return m
