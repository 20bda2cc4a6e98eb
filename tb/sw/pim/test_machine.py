"""Command lists on the golden machine: products, attention bit by bit, and the same state in the order of dynamic scheduling."""

import dataclasses

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.config import PimConfig
from hw.pim.isa import PimOpcode, PimRegister
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.attention import attend, attend_three_stage, finish, merge, numerics_of, score_scale
from sw.golden.pim.machine import PimMachine
from sw.golden.pim.reduction import bcast_product, tree_product
from sw.pim.assembler import assemble, command
from sw.pim.attention_list import append_tokens, attention, setup
from sw.pim.expand import CommandError
from sw.pim.head_plan import HeadPlan
from sw.pim.schedule import in_order, schedule
from sw.pim.work import works_of

TINY = PIM_PRESETS["pim-tiny"]
SCALE = score_scale(32)
PLAN = HeadPlan(config=TINY, head=1, head_dim=32, group=2, max_tokens=200)


def halves(rng, *shape):
    return rng.normal(size=shape).astype(np.float16).astype(np.float32)


def slices(rows, config=TINY):
    """Return (n, K) rows as slices of (X, lanes), missing rows zero."""
    padded = np.zeros((config.rows_x, rows.shape[-1]), np.float32)
    padded[:len(np.atleast_2d(rows))] = rows
    return list(padded.reshape(config.rows_x, -1, config.lanes).transpose(1, 0, 2))


def rows_of(entries):
    """Return entries of (X, lanes) as (X, n) rows."""
    return np.array(entries).transpose(1, 0, 2).reshape(TINY.rows_x, -1)


def test_a_tree_product_over_two_tiles_of_k():
    rng = np.random.default_rng(1)
    machine, w, x = PimMachine(TINY), halves(rng, 8, 128), halves(rng, 2, 128)
    # Four bursts an output; K in two halves, each in a row of its own. The second half is added to what the first one has left.
    for half in range(2):
        machine.write_row(half, 5, w[:, 64 * half:64 * half + 64])
    machine.host_in.extend(slices(x))
    macs = "mac row=5 cnt=15 clr last\nmac row=5 grp=1 cnt=15 xidx=4 last\n"
    machine.run(assemble(f"setm k_beats, 4\nwrx cnt=7\n{macs}rdacc cnt=7\neoc"))
    halves_of_k = [tree_product(w[:, part], x[:, part], lanes=TINY.lanes, slots=TINY.n_acc_slots)
                   for part in (slice(0, 64), slice(64, 128))]
    np.testing.assert_array_equal(np.array(machine.host_out)[:, :, 0], halves_of_k[0] + halves_of_k[1])


def test_a_product_goes_on_in_the_next_command():
    rng = np.random.default_rng(11)
    machine, w, x = PimMachine(TINY), halves(rng, 3, 128), halves(rng, 2, 128)
    machine.write_row(0, 0, w[:, :64])
    machine.write_row(1, 0, w[2:, 64:])
    machine.host_in.extend(slices(x))
    # Three outputs of two bursts; the last of them goes on with two more.
    machine.run(assemble("setm k_beats, 4\nwrx cnt=7\nmac cnt=5 clr\nmac grp=1 cnt=1 xidx=4 aidx=2 last\nrdacc cnt=2\neoc"))
    expected = tree_product(w[:, :64], x[:, :64], lanes=TINY.lanes, slots=TINY.n_acc_slots)
    expected[2] = tree_product(w[2:], x, lanes=TINY.lanes, slots=TINY.n_acc_slots)
    np.testing.assert_array_equal(np.array(machine.host_out)[:, :, 0], expected)


def test_outputs_and_elements_of_half_a_burst():
    rng = np.random.default_rng(12)
    machine, w, x = PimMachine(TINY), halves(rng, 9, 16), halves(rng, 2, 16)
    machine.write_row(0, 0, w)
    machine.host_in.extend(slices(x))
    machine.run(assemble("setm k_beats, 1\nwrx\nmac cnt=3 clr last\nmac mode=bcast cnt=3 xidx=2 clr last\nrdacc cnt=7\neoc"))
    expected = tree_product(w[:8], x, lanes=TINY.lanes, slots=TINY.n_acc_slots)
    np.testing.assert_array_equal(np.array(machine.host_out)[1:, :, 0], expected[1:])
    np.testing.assert_array_equal(machine.host_out[0], bcast_product(w[:8], x[:, 2:10], slots=TINY.n_acc_slots))


def test_a_bcast_product_onto_a_bias():
    rng = np.random.default_rng(2)
    machine, w, x, bias = PimMachine(TINY), halves(rng, 10, 32), halves(rng, 2, 16), halves(rng, 2, 32)
    machine.write_row(0, 0, w)
    machine.host_in.extend([*slices(x), *slices(bias)])
    machine.run(assemble("setm k_beats, 2\nwrx xidx=3\nwracc cnt=1\nmac mode=bcast cnt=9 xidx=48 last\nrdacc cnt=1\neoc"))
    np.testing.assert_array_equal(rows_of(machine.host_out), bias + bcast_product(w, x[:, :10], slots=TINY.n_acc_slots))


@pytest.fixture(scope="module")
def cached():
    """Return a machine with 150 tokens of a head, appended one by one, and their K and V."""
    rng = np.random.default_rng(3)
    machine, keys, values = PimMachine(TINY), halves(rng, 150, 32), halves(rng, 150, 32)
    words = setup([PLAN], 0, SCALE)
    for key, value in zip(keys, values, strict=True):
        machine.host_in.extend([*slices(key), *slices(value)])
        words += append_tokens([PLAN])
    machine.run([*words, command(PimOpcode.EOC)])
    return machine, keys, values


def attend_on(machine, tokens, queries):
    machine.host_out.clear()
    machine.host_in.extend(slices(queries))
    machine.run([*setup([PLAN], 150, SCALE), *attention([PLAN], tokens), command(PimOpcode.EOC)])
    return rows_of(machine.host_out)


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 33, 150])
def test_attention_is_the_golden_one_bit_by_bit(cached, tokens):
    machine, keys, values = cached
    queries = halves(np.random.default_rng(tokens), 2, 32)
    expected = finish(attend(numerics_of(TINY, block=PLAN.block), queries, keys[:tokens], values[:tokens], SCALE))
    np.testing.assert_array_equal(attend_on(machine, tokens, queries), expected)


def test_the_three_stage_softmax_by_commands(cached):
    machine, keys, values = cached
    queries = halves(np.random.default_rng(9), 2, 32)
    machine.host_out.clear()
    machine.host_in.extend(slices(queries))
    # 32 tokens are a row of K and one of V; their 32 weights are two slices.
    text = (f"wrx cnt=1\nmac row={PLAN.first_row} cnt=31 aidx=2 clr last\nmvs aidx=2 cnt=31 xidx=1\nsfm aidx=1 value=32\n"
            f"mvx aidx=1 xidx=2\nmvx aidx=1 xidx=3\nmac mode=bcast row={PLAN.value_row} cnt=31 xidx=32 clr last\n"
            "rdacc cnt=1\neoc")
    machine.run([*setup([PLAN], 150, SCALE), *assemble(text)])
    expected = attend_three_stage(numerics_of(TINY), queries, keys[:32], values[:32], SCALE)
    np.testing.assert_array_equal(rows_of(machine.host_out), expected)


def test_parts_are_merged_by_commands(cached):
    machine, keys, values = cached
    queries = halves(np.random.default_rng(10), 2, 32)
    other = dataclasses.replace(PLAN, head=2)
    numerics = numerics_of(TINY, block=PLAN.block)
    machine.host_out.clear()
    machine.host_in.extend(slices(queries))
    first = attention([PLAN], 16)[:-2]          # without O / l and reading
    # Head 2 sees tokens 16 to 31, and has its output in entries 4 and 5.
    text = ("seth output, 2, 4\nwracc aidx=4 cnt=1\nmac col=16 cnt=15 aidx=8 clr last\nmvs aidx=8 cnt=15 xidx=2\n"
            f"sfo aidx=2 value=16\nmvx aidx=2 xidx=2\nmac mode=bcast row={PLAN.value_row} col=16 cnt=15 xidx=32 aidx=4 last\n"
            "mrg aidx=1 xidx=2\nmrg aidx=1 xidx=1\nrdacc cnt=1\neoc")
    machine.host_in.extend(slices(np.zeros((2, 32), np.float32)))
    machine.run([*setup([PLAN], 150, SCALE), *first, *assemble(text)])
    states = [attend(numerics, queries, keys[a:a + 16], values[a:a + 16], SCALE) for a in (0, 16)]
    np.testing.assert_array_equal(rows_of(machine.host_out), finish(merge(*states)))
    assert other.block == PLAN.block


def test_copies_and_elementwise_commands():
    rng = np.random.default_rng(4)
    machine, row, x = PimMachine(TINY), halves(rng, 64), halves(rng, 2, 64)
    machine.write_row(1, 7, row)
    machine.host_in.extend(slices(x))
    machine.run(assemble("wrx cnt=3\newmul grp=1 row=7 cnt=1\nrdcp grp=1 row=7 cnt=1 xidx=4\newadd grp=1 row=7 cnt=1 xidx=4\n"
                         "wrcp grp=2 row=8 cnt=1\neoc"))
    product = (x * row).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(rows_of(machine.x_values()[:4]), product)
    twice = np.stack([row + row] * 2).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(rows_of(machine.x_values()[4:]), twice)
    np.testing.assert_array_equal(machine.read_row(2, 8).reshape(-1)[:64], product[0])


def test_activation_functions():
    rng = np.random.default_rng(5)
    gate, up = halves(rng, 2, 16) * np.float32(2), halves(rng, 2, 16)
    machine = PimMachine(TINY)
    machine.host_in.extend([*slices(gate), *slices(up)])
    machine.run(assemble("wracc cnt=1\naf mode=0\naf mode=1 xidx=1\naf mode=2 xidx=2\naf mode=3 xidx=3\neoc"))
    g, u = gate.astype(np.float64), up.astype(np.float64)
    silu = g / (1 + np.exp(-g))
    np.testing.assert_array_equal(machine.x_values()[0], gate)
    np.testing.assert_allclose(machine.x_values()[1], silu, atol=2.0**-8)
    assert np.abs(machine.x_values()[2] - 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3)))).max() < 5e-3
    np.testing.assert_allclose(machine.x_values()[3], silu * u, atol=2.0**-8)


def test_rows_of_the_upper_sets():
    config = dataclasses.replace(PIM_PRESETS["pim-attacc-buffer"], interval=4, pim_per_burst=2, dram_rows=10)
    machine = PimMachine(config)
    machine.write_row(3, 12, np.arange(16.0))           # set 19, row 2
    np.testing.assert_array_equal(machine.read_row(3, 12)[0], np.arange(16.0))
    assert not machine.read_row(3, 2).any()
    striped = PimMachine(dataclasses.replace(PIM_PRESETS["pim-attacc-buffer"], dram_rows=10))
    assert striped.read_row(15, 9).shape == (64, 16)    # two banks of each set, a burst of either in turn


# Dynamic scheduling -------------------------------------------------------------------------------------------------


def random_list(rng):
    """Return a list whose commands share few entries."""
    text = "setm k_beats, 2\nwracc cnt=7\nwrx cnt=7\n"
    for _ in range(30):
        x, a, row = int(rng.integers(0, 5)), int(rng.integers(0, 6)), int(rng.integers(0, 3))
        text += rng.choice([
            f"wrx xidx={x} cnt=1", f"rdacc aidx={a} cnt=1", f"wracc aidx={a}", f"mac row={row} xidx={x} aidx={a} cnt=1 clr last",
            f"mac row={row} xidx={x} aidx={a} last", f"mac mode=bcast row={row} xidx={16 * x + 3} aidx={a} cnt=2 last",
            f"ewmul row={row} xidx={x}", f"rdcp row={row} xidx={x}", f"wrcp row={row} xidx={x}", f"af aidx={a} xidx={x}",
            f"mvs aidx={a} xidx=0", "barrier" if rng.integers(0, 4) == 0 else "nop"]) + "\n"
    return assemble(text + "eoc")


def state(machine):
    return machine.xbuf, machine.obuf, np.array(machine.host_out), *(machine.read_row(0, row) for row in range(3))


def test_the_order_of_dynamic_scheduling_leaves_the_same_state():
    moved = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        words, rows, host = random_list(rng), halves(rng, 3, 1024) / np.float32(4), halves(rng, 200, 2, 16) / np.float32(4)
        machines = [PimMachine(TINY) for _ in range(2)]
        for machine in machines:
            machine.host_in.extend(host)
            for row in range(3):
                machine.write_row(0, row, rows[row])
        steps = list(machines[0].steps(words))
        issues = [timed.issue for timed in schedule(works_of(TINY, words))]
        order = sorted(range(len(steps)), key=issues.__getitem__)
        moved += order != list(range(len(steps)))
        machines[0].run(words)
        for number in order:
            machines[1].execute(*steps[number])
        for a, b in zip(*(state(machine) for machine in machines), strict=True):
            np.testing.assert_array_equal(a, b)
    assert moved > 20


def test_attention_keeps_the_macs_busy_with_dynamic_scheduling():
    duplex = PIM_PRESETS["pim-duplex"]
    plans = [HeadPlan(config=duplex, head=head, head_dim=128, group=8, max_tokens=1024, first_row=64 * head) for head in (0, 1)]
    words = [*setup(plans, 1024, score_scale(128)), *attention(plans, 1024), command(PimOpcode.EOC)]
    works = works_of(duplex, words)
    ideal = 2 * 2 * 1024 * duplex.pim_per_burst
    dynamic, waiting = (max(t.end for t in run(works)) for run in (schedule, in_order))
    assert dynamic < 1.03 * ideal
    assert waiting > 1.3 * ideal


# Refusals -----------------------------------------------------------------------------------------------------------


def test_a_list_that_is_refused_does_nothing():
    machine = PimMachine(TINY)
    machine.host_in.extend(slices(np.ones((2, 16), np.float32)))
    with pytest.raises(CommandError):
        machine.run(assemble("wrx\nmac row=64\neoc"))
    assert not machine.xbuf.any()
    assert len(machine.host_in) == 1


@pytest.mark.parametrize(("changes", "message"), [
    ({"head_dim": 48}, "HeadPlan.head_dim must be the 16 elements of a slice times a power of two, at most 64, not 48"),
    ({"head_dim": 96}, "HeadPlan.head_dim must be the 16 elements of a slice times a power of two, at most 64, not 96"),
    ({"group": 3}, "HeadPlan.group must be between 1 and 2, not 3"),
    ({"head": 4}, "HeadPlan.head must be below 4, not 4"),
    ({"max_tokens": 32 * 16 * 32 + 1}, "HeadPlan.max_tokens must be between 1 and 16384, what the rows hold, not 16385"),
    ({"head_dim": 128}, "HeadPlan.head_dim must leave room in both buffers for two blocks, not 128"),
])
def test_heads_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(PLAN, **changes)


@pytest.mark.parametrize("tokens", [0, 201])
def test_a_context_beyond_the_memory_is_refused(tokens):
    with pytest.raises(ConfigError, match=rf"^tokens must be between 1 and 200, not {tokens}$"):
        attention([PLAN], tokens)
    with pytest.raises(CommandError, match=r"^command 10: tokens of head 1 must be at most 200, not 201 \(TOKENS_RANGE\)$"):
        PimMachine(TINY).run([*setup([PLAN], 200, SCALE), *append_tokens([PLAN]), command(PimOpcode.EOC)])


def test_the_config_that_the_lists_are_for():
    assert PimConfig() == TINY
    assert PLAN.block == 16
    assert command(PimOpcode.SETM, aidx=PimRegister.SCALE, value=int(SCALE.view(np.uint32)))
