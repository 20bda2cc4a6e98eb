"""The native simulator of a PIM's channel: lists against the golden machine, and every way in which a run can end."""

import dataclasses
import threading

import numpy as np
import pytest

from flows.pim.sim import PimHang, PimListError, PimSim
from hw.pim.isa import PimErrorCause
from hw.pim.presets import PIM_PRESETS
from hw.pim.timing_tables import DramCommand
from sw.golden.pim.attention import score_scale
from sw.golden.pim.machine import PimMachine
from sw.pim.assembler import assemble
from sw.pim.attention_list import attention, setup
from sw.pim.dram import DramViolation
from sw.pim.head_plan import HeadPlan

CONFIG = dataclasses.replace(PIM_PRESETS["pim-tiny"], xbuf_entries=32, obuf_entries=128)
SIM = PimSim(CONFIG, commands=1024)


def halves(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16).astype(np.float32)


class Pair:
    """A session and the golden machine, with the same memory at first."""

    def __init__(self, seed, **options):
        self.session, self.machine = SIM.open(seed=seed, **options), PimMachine(CONFIG)
        self.rng = np.random.default_rng(seed)

    def weights(self, grp, row, values):
        self.machine.write_row(grp, row, values)
        data = values.astype(np.float16).reshape(-1).view(np.uint8)
        self.session.row(grp, row).reshape(-1)[:len(data)] = data

    def run(self, words, host_in):
        """Run a list on both; the golden values are `host_in`, slices or entries, in order."""
        before = len(self.machine.host_out)
        self.machine.host_in.extend(values for _, values in host_in)
        self.machine.run(words)
        codes = [SIM.host_words(values.astype(kind)) for kind, values in host_in]
        run = self.session.run(words, np.concatenate(codes) if codes else None)
        return run, SIM.entries(run.host_out), np.array(self.machine.host_out[before:])


def random_list(pair):
    """Return a list of products, loads and reads in any order, and what it takes from the host."""
    rng, rows, host = pair.rng, CONFIG.rows_x, []
    shape = rows, CONFIG.lanes

    def send(kind, count):
        host.extend((kind, values) for values in halves(rng, count, *shape))

    text = "setm k_beats, 4\nwracc cnt=7\nwrx cnt=7\n"
    send(np.float32, 8)
    send(np.float16, 8)
    for _ in range(60):
        x, a = int(rng.integers(0, 4)), int(rng.integers(0, 5))
        place = f"row={rng.integers(0, 3)} grp={rng.integers(0, 3)} aidx={a} last {rng.choice(['', 'clr'])}"
        match int(rng.integers(0, 5)):
            case 0:
                text += f"wrx xidx={x} cnt=1\n"
                send(np.float16, 2)
            case 1:
                text += f"rdacc aidx={a} cnt=1\n"
            case 2:
                text += f"wracc aidx={a}\n"
                send(np.float32, 1)
            case 3:
                text += f"mac xidx={x} cnt=3 {place}\n"
            case _:
                text += f"mac mode=bcast xidx={16 * x} cnt=1 {place}\n"
    return assemble(text + "rdacc cnt=7\neoc"), host


@pytest.mark.parametrize(("stall", "seed"), [(0.0, 1), (0.4, 2), (0.9, 3)])
def test_random_lists_leave_what_the_golden_machine_leaves(stall, seed):
    pair = Pair(seed, stall=stall)
    for row in range(3):
        for grp in range(3):
            pair.weights(grp, row, halves(pair.rng, 32, CONFIG.burst_weights))
    for _ in range(12):
        run, found, golden = pair.run(*random_list(pair))
        np.testing.assert_array_equal(found, golden)
        assert run.counters["active"] >= run.dram[DramCommand.MAC] // CONFIG.streams > 0
    assert not pair.session.violations


@pytest.mark.parametrize(("heads", "tokens", "stall", "head_dim"), [
    (1, 1, 0.0, 32), (1, 250, 0.2, 32), (2, 63, 0.4, 32), (3, 193, 0.0, 32), (4, 129, 0.7, 32), (3, 99, 0.0, 16)])
def test_attention_of_several_heads_is_what_the_golden_machine_computes(heads, tokens, stall, head_dim):
    plans = [HeadPlan(config=CONFIG, head=(head + 1) % 4, head_dim=head_dim, group=2, max_tokens=256, first_row=2 * head)
             for head in range(heads)]
    assert (plans[0].block, plans[0].tokens_a_row, plans[0].places) == ((64, 32, 2) if head_dim == 32 else (32, 64, 2))
    pair = Pair(tokens, stall=stall)
    for plan in plans:
        for first in (plan.first_row, plan.value_row):
            for row in range(-(-tokens // plan.tokens_a_row)):
                pair.weights(*pair.machine.place(first, row), halves(pair.rng, plan.tokens_a_row, head_dim))
    host = [(np.float16, half) for half in halves(pair.rng, head_dim // 16 * heads, 2, 16)]
    words = [*setup(plans, tokens, score_scale(head_dim)), *attention(plans, tokens), *assemble("eoc")]
    run, found, golden = pair.run(words, host)
    assert len(found) == head_dim // 16 * heads
    np.testing.assert_array_equal(found, golden)
    assert run.counters["active"] == 2 * heads * -(-tokens * head_dim // 32) * 2


def test_an_error_stops_a_list_and_the_next_one_runs():
    session = SIM.open()
    with pytest.raises(PimListError, match=r"^the list stopped at word 1: ROW_RANGE$") as caught:
        session.run(assemble("setm k_beats, 2\nmac grp=1 row=64\neoc"))
    assert (caught.value.cause, caught.value.index) == (PimErrorCause.ROW_RANGE, 1)
    assert session.run(assemble("wracc\nrdacc\neoc"), SIM.host_words(np.ones((1, 2, 16), np.float32))).cycles > 5


def test_a_list_that_waits_for_the_host_is_found_out():
    session = SIM.open(watchdog=500)
    with pytest.raises(PimHang, match=r"^the list waits for a host word after the 1 there are: nothing has happened for a while "
                                      r"after 5\d\d cycles$"):
        session.run(assemble("wrx\neoc"), np.zeros((1, 32), np.uint8))
    assert session.run(assemble("eoc")).cycles == 2


def test_host_words_that_nobody_takes_are_an_error():
    with pytest.raises(ValueError, match=r"^host_in must be the 2 words that the list takes, not 3$"):
        SIM.open().run(assemble("wrx\neoc"), np.zeros((3, 32), np.uint8))


@pytest.mark.parametrize(("text", "call"), [
    ("host_in must be uint8 of shape \\(words, 32\\), not uint8 of shape \\(1, 31\\)",
     lambda: SIM.open().run(assemble("eoc"), np.zeros((1, 31), np.uint8))),
    ("a list must have 1 to 1024 commands, not 0", lambda: SIM.open().run([])),
    ("stall must be between 0 and 0.95, not 1", lambda: SIM.open(stall=1)),
    ("seed must be from 0 on, not -1", lambda: SIM.open(seed=-1)),
    ("watchdog must be at least 1, not 0", lambda: SIM.open(watchdog=0)),
])
def test_bad_arguments_are_refused(text, call):
    with pytest.raises(ValueError, match=f"^{text}$"):
        call()


def test_a_closed_session_says_so():
    with SIM.open() as session:
        pass
    with pytest.raises(ValueError, match=r"^the session is closed$"):
        session.run(assemble("eoc"))


def test_a_broken_rule_of_the_dram_ends_a_run_by_name(monkeypatch):
    """The DRAM of the model wants more time from ACT to MAC than the one that the RTL was made for."""
    slower = dataclasses.replace(CONFIG.dram, rcd_mac=CONFIG.dram.rcd_mac + 3)
    monkeypatch.setattr(type(CONFIG), "dram", property(lambda self: slower))
    words = assemble("setm k_beats, 2\nmac cnt=31 clr last\neoc")
    strict, permissive = SIM.open(), SIM.open(strict=False)
    with pytest.raises(DramViolation, match=r"^RCDMAC: MAC at \d+: \d+ clocks after ACTM in the bank, at least 22 \(bank 0\)$"):
        strict.run(words)
    permissive.run(words)
    assert permissive.violations == {"RCDMAC": 1}


def test_refreshes_come_in_time_and_their_absence_is_found_out(monkeypatch):
    loop = assemble("setm k_beats, 2\nsetm r7, 3000\nloop r7, 1\nmac cnt=31 clr last\neoc")
    session = SIM.open()
    run = session.run(loop)
    assert run.dram[DramCommand.REF] > 2 * 16
    assert not session.violations
    often = dataclasses.replace(CONFIG.dram, refi=CONFIG.dram.refi // 20)
    monkeypatch.setattr(type(CONFIG), "dram", property(lambda self: often))
    with pytest.raises(DramViolation, match=r"^DEADLINE: at \d+: bank \d+ was not refreshed for more than 2277 clocks$"):
        SIM.open().run(loop)


def test_sessions_are_channels_that_share_nothing():
    """Two channels at once give what each gives alone."""
    pairs = [Pair(seed) for seed in (5, 6)]
    for pair in pairs:
        for row in range(3):
            for grp in range(3):
                pair.weights(grp, row, halves(pair.rng, 32, CONFIG.burst_weights))
    lists = [random_list(pair) for pair in pairs]
    found = {}

    def work(index):
        _, words, golden = pairs[index].run(*lists[index])
        found[index] = words, golden

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for words, golden in found.values():
        np.testing.assert_array_equal(words, golden)
    assert len(found) == 2
