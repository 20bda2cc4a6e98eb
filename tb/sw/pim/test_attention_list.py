"""Lists of decode attention: several heads, blocks of several rows, all in the golden machine against the golden attention."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.isa import PimOpcode
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.attention import attend, finish, numerics_of, score_scale
from sw.golden.pim.machine import PimMachine
from sw.pim.assembler import command
from sw.pim.attention_list import append_tokens, attention, setup
from sw.pim.checker import check
from sw.pim.expand import Settings, expand
from sw.pim.head_plan import HeadPlan

TINY = PIM_PRESETS["pim-tiny"]
WIDE = dataclasses.replace(TINY, xbuf_entries=32, obuf_entries=128)
SCALE = score_scale(32)


def plans_of(config, heads, *, head_dim=32, tokens=256):
    one = HeadPlan(config=config, head=0, head_dim=head_dim, group=2, max_tokens=tokens)
    rows = 2 * (one.value_row - one.first_row)
    return [dataclasses.replace(one, head=head, first_row=head * rows) for head in range(heads)]


def halves(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16).astype(np.float32)


def slices(rows, config):
    padded = np.zeros((config.rows_x, rows.shape[1]), np.float32)
    padded[:len(rows)] = rows
    return list(padded.reshape(config.rows_x, -1, config.lanes).transpose(1, 0, 2))


@pytest.mark.parametrize(("config", "head_dim", "block", "places"), [
    (TINY, 32, 16, 2), (WIDE, 32, 64, 2), (WIDE, 16, 32, 2), (dataclasses.replace(WIDE, xbuf_entries=16, k_tile=128), 128, 64, 1),
])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_heads_are_attended_to_as_the_golden_attention_does(config, head_dim, block, places, heads):
    rng = np.random.default_rng(heads)
    plans = plans_of(config, heads, head_dim=head_dim)
    assert {(plan.block, plan.places) for plan in plans} == {(block, places)}
    machine, words = PimMachine(config), setup(plans, 0, SCALE)
    keys, values = halves(rng, heads, 70, head_dim), halves(rng, heads, 70, head_dim)
    for token in range(70):
        words += append_tokens(plans)
        for head in range(heads):
            machine.host_in.extend([*slices(keys[head, token, None], config), *slices(values[head, token, None], config)])
    machine.run([*words, command(PimOpcode.EOC)])
    for tokens in (1, 33, 70):
        queries = halves(rng, heads, 2, head_dim)
        for one in queries:
            machine.host_in.extend(slices(one, config))
        machine.host_out.clear()
        listed = [*setup(plans, 70, SCALE), *attention(plans, tokens), command(PimOpcode.EOC)]
        assert not check(config, listed).hazards
        machine.run(listed)
        found = np.array(machine.host_out).reshape(heads, -1, 2, config.lanes).transpose(0, 2, 1, 3).reshape(heads, 2, -1)
        for head in range(heads):
            state = attend(numerics_of(config, block=block), queries[head], keys[head, :tokens], values[head, :tokens], SCALE)
            np.testing.assert_array_equal(found[head], finish(state))


def test_what_the_heads_of_a_pair_have_in_the_buffers_is_apart():
    plans = plans_of(WIDE, 2)
    words = [*setup(plans, 200, SCALE), *attention(plans, 200), command(PimOpcode.EOC)]
    macs = [one.fields for one in expand(words, Settings()) if one.opcode is PimOpcode.MAC]
    tree, bcast = ([one for one in macs if one["mode"] == mode] for mode in (0, 1))
    assert {one["xidx"] for one in tree} == {0, 2}
    assert {one["aidx"] for one in bcast} == {0, 2}
    # A chunk is a row; in turn they go to places behind both outputs, and whole blocks are added up at once.
    assert [one["aidx"] for one in tree] == [4 + 32 * (chunk % 3) for chunk in range(14)]
    assert [one["last"] for one in bcast] == [0, 1] * 6 + [1, 1]
    assert [one["clr"] for one in bcast] == [1, 0, 1, 0] + [0] * 10
    assert all((a["xidx"] >= 64 + 4 * 16) == (a["aidx"] == 2) for a in bcast)
    modes = [one["mode"] for one in macs]
    assert sum(a != b for a, b in pairwise(modes)) == 2 * 4 - 1         # scores of both, then outputs of both, four times


def test_outputs_that_are_not_divided_come_with_their_state():
    plans = plans_of(WIDE, 1)
    words = attention(plans, 5, divided=False)
    assert [one.opcode for one in expand([*words, command(PimOpcode.EOC)], Settings())][-4:] == [
        PimOpcode.RDACC, PimOpcode.STS, PimOpcode.RDACC, PimOpcode.EOC]


def test_heads_that_share_a_number_are_refused():
    plans = plans_of(TINY, 1)
    with pytest.raises(ConfigError, match=r"^heads of a list must have numbers of their own, not \[0, 0\]$"):
        setup(plans * 2, 0, SCALE)
