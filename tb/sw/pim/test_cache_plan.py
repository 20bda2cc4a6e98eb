"""Decode attention over channels, and the cache that an array leaves to a PIM: appended, transferred, attended to."""

import dataclasses

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.attention import attend, attend_parts, finish, numerics_of, score_scale
from sw.golden.pim.device import GoldenPimDevice
from sw.kernels.transformer.shape import KVLayout
from sw.pim.cache_plan import CachePlan, attention_inputs, attention_outputs, attention_program
from sw.pim.decode import attend_token, longest_programs
from sw.pim.dims_list import scores_program
from sw.pim.merge_list import merge_inputs, merge_program
from sw.pim.program import read_rows
from sw.pim.transfer import KvTransfer, transfer_cycles

TINY = PIM_PRESETS["pim-tiny"]
PLAN = CachePlan(config=TINY, channels=2, layers=2, kv_heads=4, group=2, head_dim=32, max_tokens=100, addr=32768)
LAYOUT = KVLayout(bits=8, heads=4, tokens=128, row_bytes=64)
TRANSFER = KvTransfer(source=LAYOUT, addr=4096, layer_bytes=LAYOUT.size, target=PLAN)
BEFORE = 37                 # tokens that the array has left


def halves(rng, *shape):
    return rng.normal(size=shape).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def array():
    """Return an array's memory, and its keys and values, (layers, K or V, heads, tokens, dh) float32."""
    rng = np.random.default_rng(7)
    memory = rng.integers(0, 256, 4096 + 2 * LAYOUT.size).astype(np.uint8)
    held = np.zeros((2, 2, 4, BEFORE, 32), np.float32)
    for layer in range(2):
        for which, (codes, scales) in enumerate((("keys", "key scales"), ("values", "value scales"))):
            for head in range(4):
                start = 4096 + layer * LAYOUT.size
                rows = start + LAYOUT.offset(codes) + head * LAYOUT.head_bytes
                of = rng.uniform(1e-3, 1e-2, BEFORE).astype(np.float32)
                at = start + LAYOUT.offset(scales) + head * LAYOUT.scales_bytes
                memory[at:at + of.nbytes] = of.view(np.uint8)
                values = memory[rows:rows + BEFORE * 64].reshape(BEFORE, 64)[:, :32].view(np.int8).astype(np.float32)
                held[layer, which, head] = values * of[:, None]
    return memory, held.astype(np.float16).astype(np.float32)


SEGMENTS = dataclasses.replace(TINY, segments=2, xbuf_entries=32)       # a token in two bursts
STEPS = dataclasses.replace(TINY, segments=2, streams=8, lanes=64, bundles=1, xbuf_entries=16)      # two tokens in a segment's


@pytest.mark.parametrize(("config", "channels"), [(TINY, 1), (TINY, 2), (SEGMENTS, 2), (STEPS, 1)])
def test_a_moved_cache_is_appended_to_and_attended_to_on_any_number_of_channels(array, config, channels):
    rng = np.random.default_rng(8)
    memory, held = array
    plan = dataclasses.replace(PLAN, config=config, channels=channels, addr=config.named_sets * config.row_bytes)
    session = GoldenPimDevice(config, channels).open()
    dataclasses.replace(TRANSFER, target=plan).run(memory, session.memory, BEFORE)
    scale = score_scale(32)
    for layer in range(2):
        keys, values = held[layer]
        for tokens in range(BEFORE + 1, BEFORE + 3):
            q, k, v = halves(rng, 8, 32), halves(rng, 4, 32), halves(rng, 4, 32)
            keys, values = (np.concatenate((old, new[:, None]), axis=1) for old, new in ((keys, k), (values, v)))
            result = session.run(attention_program(plan, layer, tokens, scale), None, attention_inputs(plan, q, k, v))
            found = attention_outputs(plan, result.outputs)
            numerics = numerics_of(config, block=plan.head(layer, 0).block)
            for head in range(4):
                golden = finish(attend(numerics, q[2 * head:2 * head + 2], keys[head], values[head], scale))
                np.testing.assert_array_equal(found[2 * head:2 * head + 2], golden)


def run_parts(session, plan, layer, tokens, q, k, v):
    """Return what a token attends to, its parts merged."""
    outputs = session.run(attention_program(plan, layer, tokens, score_scale(32)), None, attention_inputs(plan, q, k, v)).outputs
    merge = merge_program(plan, tokens)
    return attention_outputs(plan, session.run(merge, None, merge_inputs(plan, outputs)).outputs)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_tokens_over_channels_are_merged_as_the_golden_parts(array, channels):
    rng = np.random.default_rng(12)
    memory, held = array
    config = dataclasses.replace(TINY, n_pch=4)
    plan = dataclasses.replace(PLAN, config=config, channels=channels, split="tokens")
    session = GoldenPimDevice(config, channels).open()
    dataclasses.replace(TRANSFER, target=plan).run(memory, session.memory, BEFORE)
    keys, values = held[1]
    numerics = numerics_of(config, block=plan.head(1, 0).block)
    for tokens in range(BEFORE + 1, BEFORE + 3):
        q, k, v = halves(rng, 8, 32), halves(rng, 4, 32), halves(rng, 4, 32)
        keys, values = (np.concatenate((old, new[:, None]), axis=1) for old, new in ((keys, k), (values, v)))
        found = run_parts(session, plan, 1, tokens, q, k, v)
        for head in range(4):
            golden = attend_parts(numerics, q[2 * head:2 * head + 2], keys[head], values[head], score_scale(32), tokens=channels)
            np.testing.assert_array_equal(found[2 * head:2 * head + 2], golden)


def test_fewer_tokens_than_channels_that_share_them():
    rng = np.random.default_rng(13)
    plan = dataclasses.replace(PLAN, split="tokens")
    session = GoldenPimDevice(TINY).open()
    q, k, v = halves(rng, 8, 32), halves(rng, 4, 32), halves(rng, 4, 32)
    np.testing.assert_array_equal(run_parts(session, plan, 0, 1, q, k, v), np.repeat(v, 2, axis=0))
    assert merge_program(PLAN, 5) is None


def test_a_transfer_writes_where_the_plan_says(array):
    memory, held = array
    session = GoldenPimDevice(TINY).open()
    TRANSFER.run(memory, session.memory, BEFORE)
    for layer, head in ((0, 0), (1, 3)):
        for value in (False, True):
            stored = read_rows(TINY, session.memory[head % 2], PLAN.address(layer, head, value=value), BEFORE * 64)
            np.testing.assert_array_equal(stored[:BEFORE * 64].view(np.float16).astype(np.float32).reshape(BEFORE, 32),
                                          held[layer, int(value), head])
    assert not session.memory[0][:, 0].any()            # before the plan's first row
    assert TRANSFER.bytes_read(BEFORE) == 2 * 2 * 4 * BEFORE * (32 + 4)
    assert TRANSFER.bytes_written(BEFORE) == held.size * 2
    assert transfer_cycles(33, 16) == 3


@pytest.mark.parametrize(("changes", "message"), [
    ({"split": "elements"}, "CachePlan.split must be one of heads, tokens, head-dim, not 'elements'"),
    ({"kv_heads": 3}, "CachePlan.kv_heads must be a multiple of the 2 channels, not 3"),
    ({"addr": 2048}, "CachePlan.addr must be a multiple of 32768, a row of all sets, not 2048"),
    ({"max_tokens": 8192}, "a context of 8192 tokens must end within 2097152 bytes, a channel's, not at 4227072"),
    ({"head_dim": 24}, "HeadPlan.head_dim must be the 16 elements of a slice times a power of two, at most 64, not 24"),
    ({"group": 3}, "HeadPlan.group must be between 1 and 2, not 3"),
])
def test_caches_that_do_not_fit(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(PLAN, **changes)


def test_parts_that_no_channel_can_merge():
    plan = dataclasses.replace(PLAN, config=dataclasses.replace(TINY, n_pch=16), channels=16, split="tokens")
    with pytest.raises(ConfigError, match=r"^channels that tokens are spread over must be at most 4, .*, not 16$"):
        merge_program(plan, 50)
    assert merge_program(plan, 4) is not None


@pytest.mark.parametrize("tokens", [0, 101])
def test_a_context_beyond_the_plan_is_refused_before_anything_is_written(array, tokens):
    message = rf"^tokens must be between 1 and 100, the context, not {tokens}$"
    with pytest.raises(ConfigError, match=message):
        attention_program(PLAN, 0, tokens, score_scale(32))
    session = GoldenPimDevice(TINY).open()
    with pytest.raises(ConfigError, match=message):
        TRANSFER.run(array[0], session.memory, tokens)
    assert not any(memory.any() for memory in session.memory)


@pytest.mark.parametrize(("changes", "message"), [
    ({"source": dataclasses.replace(LAYOUT, bits=4)}, "KvTransfer.source must be int8 to be moved to a PIM, not of 4 bits"),
    ({"source": dataclasses.replace(LAYOUT, heads=2)}, "KvTransfer.source must have the 4 heads of the PIM, not 2"),
])
def test_transfers_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(TRANSFER, **changes)


@pytest.mark.parametrize(("channels", "obuf", "dim", "before"), [(2, 64, 32, BEFORE), (4, 128, 64, 0)])
def test_elements_over_channels_are_added_up_as_the_golden_partition(array, channels, obuf, dim, before):
    rng = np.random.default_rng(14)
    memory, held = array
    config = dataclasses.replace(TINY, n_pch=4, lanes=32 // channels, streams=4 // channels, obuf_entries=obuf,
                                 xbuf_entries=4 * channels)
    plan = dataclasses.replace(PLAN, config=config, channels=channels, split="head-dim", addr=0, head_dim=dim)
    session = GoldenPimDevice(config, channels).open()
    if before:
        dataclasses.replace(TRANSFER, target=plan).run(memory, session.memory, before)
    keys, values = held[1] if before else np.zeros((2, 4, 0, dim), np.float32)
    numerics, carried = numerics_of(config, block=plan.head(1, 0).block), {}
    for tokens in range(before + 1, before + 3):
        q, k, v = halves(rng, 8, dim), halves(rng, 4, dim), halves(rng, 4, dim)
        keys, values = (np.concatenate((old, new[:, None]), axis=1) for old, new in ((keys, k), (values, v)))
        found = attend_token(plan, 1, tokens, score_scale(dim), (q, k, v),
                             lambda program, inputs: session.run(program, None, inputs),
                             lambda name, nbytes: carried.update({name: nbytes}))
        for head in range(4):
            golden = attend_parts(numerics, q[2 * head:2 * head + 2], keys[head], values[head], score_scale(dim), dims=channels)
            np.testing.assert_array_equal(found[2 * head:2 * head + 2], golden)
    # The context goes to all channels, and no further.
    assert carried == {"scores": channels * 4 * tokens * 4 * 2 * config.lanes}


def test_elements_that_are_a_part_of_a_stream_are_refused():
    with pytest.raises(ConfigError, match=r"^CachePlan.head_dim must leave a channel at least the 16 elements of a stream's "
                                          r"burst, which are written together, not 8$"):
        dataclasses.replace(PLAN, config=dataclasses.replace(TINY, streams=1, lanes=8, xbuf_entries=16), head_dim=8)


def test_elements_that_the_channels_do_not_divide_and_lists_of_one_program():
    plan = dataclasses.replace(PLAN, split="head-dim")
    with pytest.raises(ConfigError, match=r"^CachePlan.split must be heads or tokens for attention in one program, "
                                          r"not 'head-dim'$"):
        attention_program(plan, 0, 1, score_scale(32))
    with pytest.raises(ConfigError, match=r"^CachePlan.head_dim must be a multiple of the 3 channels, not 32$"):
        dataclasses.replace(plan, channels=3)
    with pytest.raises(ConfigError, match=r"^tokens must be between 1 and 100, the context, not 101$"):
        scores_program(plan, 0, 101, 0, score_scale(32))
    small = dataclasses.replace(TINY, obuf_entries=16)
    with pytest.raises(ConfigError, match=r"^PimConfig.obuf_entries must have room for 4 behind 16, not be 16$"):
        longest_programs(dataclasses.replace(plan, config=small))
