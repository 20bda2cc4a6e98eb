"""Predicted cycles of command lists: latencies are those of the blocks; what waits for what."""

import dataclasses

import pytest

from hw.pim.channel import compute_path
from hw.pim.presets import PIM_PRESETS
from hw.pim.weight_skid import skid_depth
from hw.share import mark_used
from sw.pim.assembler import assemble
from sw.pim.prediction import bcast_reach, merge_cycles, predicted_cycles, skid_bursts, tree_latency

TINY = PIM_PRESETS["pim-tiny"]


@pytest.mark.parametrize("name", sorted(PIM_PRESETS))
def test_latencies_are_those_of_the_compute_path(name):
    config = PIM_PRESETS[name]
    path = compute_path(config)
    mark_used(path)
    assert tree_latency(config) == path.latency_tree
    for groups in (1, 2, path.groups):
        for add in (False, True):
            assert merge_cycles(config, groups, add=add) == path.merge_cycles(groups, add=add)
    assert bcast_reach(config) == path.merge_cycles(0, add=False) - merge_cycles(config, 0, add=False) + bcast_reach(config)
    assert skid_bursts(config) == skid_depth(config.dram, config.interval)


def cycles(text, config=TINY):
    return predicted_cycles(config, assemble(f"setm k_beats, 2\n{text}\neoc"))


def test_bursts_take_their_interval_and_rows_their_time():
    one, two = cycles("mac cnt=15 clr last"), cycles("mac cnt=31 clr last")
    assert two - one == 16 * TINY.pim_per_burst
    same_row, other_row = (cycles(f"mac cnt=15 clr last\nmac row={row} cnt=15 col=16 aidx=16 clr last") for row in (0, 1))
    assert same_row == two
    dram = TINY.dram
    assert other_row - same_row == (dram.row_turnaround - TINY.interval) * TINY.pim_per_burst // TINY.interval
    assert cycles("mac cnt=15 clr last\nmac grp=1 cnt=15 aidx=16 clr last") == two       # opened meanwhile


def test_a_command_waits_for_what_it_shares():
    apart = cycles("mac cnt=31 clr last\nrdacc aidx=40 cnt=3")
    assert cycles("mac cnt=31 clr last\nrdacc cnt=3") > apart
    waiting = dataclasses.replace(TINY, dcs=False)
    assert cycles("mac cnt=31 clr last\nrdacc aidx=40 cnt=3", waiting) > apart


def test_refreshes_come_in_long_lists():
    body = "modi 0, grp, 1\nloop 15, 1\nmac cnt=31 clr last\n"
    short, long = (cycles(f"setm r7, {count}\nloop r7, 3\n{body}") for count in (2, 40))
    ideal = 15 * 32 * TINY.pim_per_burst
    assert short == pytest.approx(2 * ideal, rel=0.1)
    assert 1.0 < long / (40 * ideal) < 1.15


def test_a_token_is_written_in_its_row():
    base = "setm head_dim, 32\nsetm max_tokens, 9\nwrx cnt=1\n"
    assert TINY.dram.rcd_write / 2 < cycles(base + "kvap") - cycles(base) < 30
    assert cycles(base + "kvap\nkvap clr") > cycles(base + "kvap")
