"""The DRAM model: it stores, returns data in time, and names every rule that is broken, each rule of each table injected."""

import numpy as np
import pytest

from hw.pim.timing import TIMINGS
from hw.pim.timing_tables import ACTIVATES, COLUMN_COMMANDS, DramCommand, Scope, constraints
from sw.pim.dram import DramChannel, DramViolation

HBM3 = TIMINGS["hbm3-5.2"]
ACT, ACTM, PRE, REF, REFSB, RD, MAC, WR = DramCommand
RULES = [(name, rule) for name, timing in TIMINGS.items() for rule in constraints(timing, timing.ccd_l)]


def channel(timing=HBM3, **kwargs):
    return DramChannel(timing, interval=timing.ccd_l, **{"refresh": False, **kwargs})


def other_bank(timing, scope):
    """Return a bank that shares with bank 0 just `scope`, or more where there is no such bank."""
    away = {Scope.BANK: 0, Scope.GROUP: timing.bank_groups, Scope.RANK: 1,
            Scope.CHANNEL: timing.bank_groups * timing.banks if timing.ranks > 1 else 1}
    return away[scope]


def banks_of(timing, command, bank):
    """Return banks for a command that begins with `bank`."""
    if command in (ACTM, MAC):
        return [bank, bank + 1]
    if command is REF:
        per_rank = timing.all_banks // timing.ranks
        return list(range(bank // per_rank * per_rank, (bank // per_rank + 1) * per_rank))
    return [bank]


def give(dram, at, command, banks, row=1):
    data = np.zeros((len(banks), dram.timing.burst_bytes), np.uint8)
    dram.command(at, command, banks, row=row if command in ACTIVATES else 0, data=data if command is WR else None)


def broken_rules(timing, rule, previous, following, gap):
    """Return what a permissive model says of `following` `gap` clocks after the first of a window of `previous`."""
    dram = channel(timing, strict=False)
    first, second = (banks_of(timing, command, bank) for command, bank in (
        (previous, 0), (following, other_bank(timing, rule.scope) if rule.window == 1 else 4)))
    opened = first if previous in ACTIVATES else []
    needed = sorted({bank for command, banks in ((previous, first), (following, second))
                     for bank in banks if command in COLUMN_COMMANDS and bank not in opened})
    for index, bank in enumerate(needed):                       # rows that are read are open since long
        give(dram, 1000 * index, ACT, [bank])
    at = 100_000
    give(dram, at, previous, first)
    for index in range(1, rule.window):                         # the others of a window, each in another group
        give(dram, at + index * timing.rrd_s, previous, [index])
    assert not dram.violations.keys() - {"REFRESH_OPEN"}        # where the one rank has the open bank too
    give(dram, at + gap, following, second)
    return dram.violations


@pytest.mark.parametrize(("name", "rule"), RULES, ids=[f"{name}-{rule.name}" for name, rule in RULES])
def test_every_rule_is_named_when_it_is_broken_and_not_when_it_is_kept(name, rule):
    timing = TIMINGS[name]
    for previous in rule.previous:
        for following in rule.following:
            assert broken_rules(timing, rule, previous, following, rule.cycles - 1)[rule.name] > 0
            assert broken_rules(timing, rule, previous, following, rule.cycles)[rule.name] == 0


def test_each_table_has_every_kind_of_rule():
    names = {name: {rule.name for rule in constraints(timing, 4)} for name, timing in TIMINGS.items()}
    assert all({"RCD", "RCDMAC", "RAS", "RC", "RP", "RTP", "RTW", "FAW", "RFC", "RFCSB", "CCDMAC", "BUS_ACT"} <= rules
               for rules in names.values())
    assert "BUS_SHARED" in names["gddr6-aim"]
    assert "BUS_SHARED" not in names["hbm3-5.2"]


def test_a_strict_model_raises_with_the_name_of_the_rule():
    dram = channel()
    give(dram, 0, ACT, [3])
    with pytest.raises(DramViolation, match=r"^RCD: RD at 18: 18 clocks after ACT in the bank, at least 19$"):
        give(dram, 18, RD, [3])


@pytest.mark.parametrize(("rule", "commands"), [
    ("OPEN", [(0, ACT, [0]), (63, ACT, [0])]),
    ("CLOSED", [(0, RD, [0])]),
    ("CLOSED", [(0, ACTM, [0, 1]), (40, MAC, [1, 2])]),
    ("REFRESH_OPEN", [(0, ACT, [0]), (100, REFSB, [0])]),
    ("ORDER", [(5, ACT, [0]), (0, ACT, [9])]),
    ("BANKS", [(0, ACT, [0, 1])]),
    ("BANKS", [(0, MAC, [0])]),
    ("BANKS", [(0, ACT, [32])]),
    ("BANKS", [(0, ACTM, [1, 1])]),
    ("BANKS", [(0, PRE, [])]),
    ("BANKS", [(0, REF, list(range(8, 24)))]),
    ("ROW", [(0, ACT, [0], 64)]),
])
def test_what_the_state_forbids_has_a_name(rule, commands):
    dram = channel(strict=False)
    for at, command, banks, *row in commands[:-1]:
        give(dram, at, command, banks, *row)
    assert not dram.violations
    at, command, banks, *row = commands[-1]
    give(dram, at, command, banks, *row)
    assert dram.violations[rule] == 1


def test_a_column_that_there_is_not():
    dram = channel(strict=False)
    dram.command(0, ACT, [0], row=0)
    dram.command(30, RD, [0], column=32)
    assert dram.violations == {"COLUMN": 1}
    assert not dram.returned


def test_data_come_back_in_order_after_latency_and_burst():
    dram = channel()
    dram.row(4, 7)[3] = np.arange(32)
    dram.row(5, 7)[3] = np.arange(32) + 100
    dram.command(0, ACTM, [4, 5], row=7)
    dram.command(19, MAC, [4, 5], column=3)
    dram.command(23, MAC, [4, 5], column=4)
    (at, banks, bursts), (later, _, zeros) = dram.returned
    assert (at, later, banks) == (19 + 19 + 2, 23 + 19 + 2, (4, 5))
    assert bursts.tolist() == [list(range(32)), list(range(100, 132))]
    assert not zeros.any()
    assert dram.counts == {ACTM: 2, MAC: 4}


def test_writes_go_where_the_row_is_open_and_the_mask_says():
    dram = channel()
    dram.command(0, ACTM, [0, 1], row=2)
    dram.command(19, WR, [0, 1], column=5, data=np.full((2, 32), 9, np.uint8), mask=[False, True])
    assert not dram.row(0, 2).any()
    assert (dram.row(1, 2)[5] == 9).all()
    assert dram.row(1, 2).sum() == 9 * 32


def test_a_bank_without_refresh_for_nine_intervals_is_late_once():
    dram = channel(refresh=True, strict=False)
    limit = 9 * HBM3.refi
    dram.check_deadline(limit)
    assert not dram.violations
    dram.check_deadline(limit + 1)
    dram.check_deadline(limit + 2)
    assert dram.violations == {"DEADLINE": 1}


def test_refreshes_may_be_owed_and_made_up_for_but_not_kept_in_store():
    dram = channel(refresh=True)
    ranks = [list(range(16)), list(range(16, 32))]
    for early in range(4):                                      # four at once answer for one interval only
        for index, banks in enumerate(ranks):
            dram.command(early * 1000 + 100 * index, REF, banks)
    at = 9 * HBM3.refi + 1000
    for owed in range(8):
        for index, banks in enumerate(ranks):
            dram.command(at + owed * 1000 + 100 * index, REF, banks)
    limit = 3000 + (8 + 9) * HBM3.refi
    dram.check_deadline(limit)
    with pytest.raises(DramViolation, match=rf"^DEADLINE: at {limit + 1}: bank 0 was not refreshed for more than 45630 clocks$"):
        dram.check_deadline(limit + 1)


def test_a_second_row_buffer_lets_normal_and_pim_rows_stand_side_by_side():
    commands = [(0, ACT, [0]), (4, ACTM, [0, 1]), (23, MAC, [0, 1]), (27, RD, [0])]
    one, two = channel(strict=False), channel(dual_row_buffers=True)
    for command in commands:
        give(one, *command)
        give(two, *command)
    assert one.violations["OPEN"] == one.violations["RC"] == 1
    with pytest.raises(DramViolation, match=r"^CLOSED: RD at 63: no row is open in one of the banks \[1\]$"):
        give(two, 63, RD, [1])
