"""The native DRAM against its definition: every rule of every table injected, and random streams on both."""

import numpy as np
import pytest

from flows.pim.dram import NativeDram
from hw.pim.timing import TIMINGS
from hw.pim.timing_tables import ACTIVATES, COLUMN_COMMANDS, DramCommand
from sw.pim.dram import DramChannel, DramViolation
from tb.pim import test_dram as reference

HBM3 = TIMINGS["hbm3-5.2"]
ACT, ACTM, PRE, REF, REFSB, RD, MAC, WR = DramCommand


def native(timing=HBM3, **kwargs):
    return NativeDram(timing, interval=timing.ccd_l, **{"refresh": False, **kwargs})


@pytest.mark.parametrize("name", TIMINGS)
def test_every_rule_is_named_when_it_is_broken_and_not_when_it_is_kept(name, monkeypatch):
    monkeypatch.setattr(reference, "channel", native)
    rules = [rule for table, rule in reference.RULES if table == name]
    assert len(rules) >= 28
    for rule in rules:
        for previous in rule.previous:
            for following in rule.following:
                assert reference.broken_rules(TIMINGS[name], rule, previous, following, rule.cycles - 1)[rule.name] > 0
                assert reference.broken_rules(TIMINGS[name], rule, previous, following, rule.cycles)[rule.name] == 0


def test_a_strict_model_raises_with_rule_clocks_and_bank():
    dram = native()
    reference.give(dram, 0, ACT, [3])
    with pytest.raises(DramViolation, match=r"^RCD: RD at 18: 18 clocks after ACT in the bank, at least 19 \(bank 3\)$"):
        reference.give(dram, 18, RD, [3])


def test_bursts_of_two_banks_lie_in_turn():
    dram, noise = native(stripes=2), np.random.default_rng(1)
    for bank in (6, 7):
        dram.row(bank, 5)[:] = noise.integers(0, 256, (32, 32), dtype=np.uint8)
        reference.give(dram, 40 * (bank - 6), ACT, [bank], row=5)
    for number, (bank, column) in enumerate(((6, 0), (7, 0), (7, 31))):
        dram.command(100 + 4 * number, RD, [bank], column=column)
        np.testing.assert_array_equal(dram.take().bursts[0], dram.row(bank, 5)[column])
    np.testing.assert_array_equal(dram._memory[3, 5, :2, 0], [dram.row(6, 5)[0], dram.row(7, 5)[0]])


@pytest.mark.parametrize(("text", "commands"), [
    ("OPEN: ACT at 63: a row of bank 0 is open", [(0, ACT, [0]), (63, ACT, [0])]),
    ("CLOSED: RD at 0: no row of bank 5 is open", [(0, RD, [5])]),
    ("CLOSED: MAC at 40: no row of bank 2 is open", [(0, ACTM, [0, 1]), (40, MAC, [1, 2])]),
    ("REFRESH_OPEN: REFSB at 100: a row of bank 0 is open", [(0, ACT, [0]), (100, REFSB, [0])]),
    ("ORDER: ACT at 0: the last command was at 5", [(5, ACT, [0]), (0, ACT, [9])]),
    ("BANKS: ACT at 0: 2 banks", [(0, ACT, [0, 1])]),
    ("BANKS: MAC at 0: 1 banks", [(0, MAC, [0])]),
    ("BANKS: ACT at 0: 1 banks", [(0, ACT, [32])]),
    ("BANKS: ACTM at 0: 2 banks", [(0, ACTM, [1, 1])]),
    ("BANKS: PRE at 0: 0 banks", [(0, PRE, [])]),
    ("BANKS: REF at 0: 16 banks", [(0, REF, list(range(8, 24)))]),
    ("ROW: ACT at 0: row 64", [(0, ACT, [0], 64)]),
])
def test_what_the_state_forbids_has_a_name(text, commands):
    dram = native()
    for at, command, banks, *row in commands[:-1]:
        reference.give(dram, at, command, banks, *row)
    at, command, banks, *row = commands[-1]
    with pytest.raises(DramViolation) as caught:
        reference.give(dram, at, command, banks, *row)
    assert str(caught.value) == text


def test_a_column_and_a_late_refresh():
    dram = native(refresh=True)
    dram.command(0, ACT, [0], row=0)
    with pytest.raises(DramViolation, match=r"^COLUMN: RD at 30: column 32$"):
        dram.command(30, RD, [0], column=32)
    dram.check_deadline(9 * HBM3.refi)
    with pytest.raises(DramViolation, match=r"^DEADLINE: at 45631: bank 0 was not refreshed for more than 45630 clocks$"):
        dram.check_deadline(9 * HBM3.refi + 1)
    dram.check_deadline(9 * HBM3.refi + 2)


def random_command(rng, timing):
    """Return a command and its banks, mostly such that there are."""
    command = DramCommand(rng.choice(8, p=[.13, .12, .15, .05, .05, .2, .15, .15]))
    first, count = int(rng.integers(timing.all_banks)), int(rng.choice([2, 4, 8]))
    if command is REF:
        return command, reference.banks_of(timing, REF, first)
    if command in (ACTM, MAC) or (command in (PRE, WR) and rng.random() < 0.5):
        return command, sorted({(first // count * count + i) % timing.all_banks for i in range(count)})
    return command, [first] if rng.random() < 0.98 else [first, timing.all_banks]


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("name", ["hbm3-5.2", "hbm2", "gddr6-aim", "lpddr5"])
def test_random_streams_get_the_same_verdicts_and_data(name, dual):
    timing, rng = TIMINGS[name], np.random.default_rng(5)
    options = {"interval": timing.ccd_l, "rows": 4, "strict": False, "dual_row_buffers": dual}
    one, two = DramChannel(timing, **options), NativeDram(timing, **options)
    for bank in range(timing.all_banks):
        one.row(bank, 1)[:] = two.row(bank, 1)[:] = rng.integers(0, 256, one.row(bank, 1).shape)
    at, kinds = 0, set()
    for _ in range(1500):
        at += int(rng.choice([0, 1, 2, 4, 20, 100, 2 * timing.refi], p=[.05, .1, .1, .25, .3, .195, .005]))
        command, banks = random_command(rng, timing)
        row = {"row": int(rng.integers(0, 5)) if rng.random() < 0.1 else 1} if command in ACTIVATES else {}
        column = {"column": int(rng.integers(0, timing.columns + (rng.random() < 0.02)))} if command in COLUMN_COMMANDS else {}
        data = {"data": rng.integers(0, 256, (len(banks), timing.burst_bytes)).astype(np.uint8),
                "mask": rng.random(len(banks)) < 0.8} if command is WR else {}
        for dram in (one, two):
            dram.command(at, command, banks, **row, **column, **data)
        assert one.violations == two.violations
        kinds |= one.violations.keys()
        while one.returned:
            time, read, bursts = one.returned.popleft()
            taken = two.take()
            assert (taken.at, taken.banks) == (time, read)
            np.testing.assert_array_equal(taken.bursts, bursts)
        assert two.take() is None
    assert one.counts == two.counts
    assert len(kinds) > 20
    for bank in range(timing.all_banks):
        np.testing.assert_array_equal(one.row(bank, 1), two.row(bank, 1))
