"""AMMA: collectives, partition, bandwidth."""

import dataclasses

import pytest

from hw.errors import ConfigError
from sw.pim.amma import (
    LLAMA4_MAVERICK,
    QWEN3_235B,
    Links,
    Partition,
    communication,
    kv_bytes,
    kv_time,
    projection_bytes,
)

CUBES = Partition(shape=QWEN3_235B)


@pytest.mark.parametrize(("batch", "expected"), [(1, (76.2, 76.0, 110.9, 263.1)), (32, (111.9, 107.8, 449.5, 669.2))])
def test_golden_communication_times(batch, expected):
    assert tuple(round(float(time), 1) for time in communication(CUBES, batch).values()) == expected


def test_steps_of_the_collectives():
    free = Links(hop=Links().hop, endpoint=Links().endpoint, bandwidth=10**15)
    times = communication(CUBES, 1, links=free)
    steps = [round(float(times[name] / free.step(0)), 6) for name in ("all_gather", "reduce_scatter", "tree")]
    assert steps == [3, 3, 4]
    assert Links().step(1500, hops=2) == 2 * 15 + 10 + 1


def test_bandwidth_at_a_million_tokens():
    assert kv_bytes(QWEN3_235B, 1 << 20) == 1_073_741_824
    assert round(float(kv_time(CUBES, 1 << 20)) / 1000, 1) == 26.8
    assert kv_bytes(QWEN3_235B, 1 << 20) / 3350 / float(kv_time(CUBES, 1 << 20)) == pytest.approx(11.9, abs=0.05)
    assert projection_bytes(CUBES) == 4_456_448
    assert round(float(projection_bytes(CUBES)) / 2500 / 1000, 2) == 1.78


@pytest.mark.parametrize("tokens", [0, 1, 15, 16, 17, 4096])
def test_every_token_and_head_is_in_one_cube(tokens):
    for partition in (CUBES, Partition(shape=LLAMA4_MAVERICK, tp_h=8, tp_s=2), Partition(shape=QWEN3_235B, tp_h=1, tp_s=16)):
        seen = [(head, token) for cube in range(partition.cubes)
                for head in partition.heads_of(cube) for token in partition.tokens_of(cube, tokens)]
        assert sorted(seen) == [(head, token) for head in range(partition.shape.kv_heads) for token in range(tokens)]
        lengths = [len(partition.tokens_of(cube, tokens)) for cube in range(partition.cubes)]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(("changes", "message"), [
    ({"tp_h": 8}, "Partition.tp_h must be a divisor of the 4 KV heads, not 8"),
    ({"tp_h": 3}, "Partition.tp_h must be a power of two, not 3"),
    ({"tp_s": 2.0}, "Partition.tp_s must be a power of two, not 2.0"),
    ({"tp_s": 256}, r"Partition.tp_s must be a divisor of head_dim \(128\), not 256"),
    ({"shape": dataclasses.replace(QWEN3_235B, query_heads=63)},
     r"AttentionShape.query_heads must be a multiple of kv_heads \(4\), not 63"),
])
def test_what_does_not_divide_is_refused(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(CUBES, **changes)


def test_no_batch_is_refused():
    with pytest.raises(ConfigError, match=r"^batch must be a whole number from 1 on, not 0$"):
        communication(CUBES, 0)
    assert QWEN3_235B.group == 16


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda: dataclasses.replace(QWEN3_235B, kv_heads=0), "AttentionShape.kv_heads must be a whole number from 1 on, not 0"),
    (lambda: dataclasses.replace(QWEN3_235B, head_dim=6.5), "AttentionShape.head_dim must be a whole number from 1 on, not 6.5"),
    (lambda: Links(hop=-1), "Links.hop must be a number from 0 on, not -1"),
    (lambda: Links(endpoint=None), "Links.endpoint must be a number from 0 on, not None"),
    (lambda: Links(bandwidth=0), "Links.bandwidth must be a number above 0, not 0"),
    (lambda: Links().step(-4), "bytes must be a number from 0 on, not -4"),
    (lambda: Links().step(4, hops=-1), "hops must be a whole number from 0 on, not -1"),
    (lambda: Links().ring(0, 4), "nodes must be a whole number from 1 on, not 0"),
    (lambda: Links().tree(-2, 4), "nodes must be a whole number from 1 on, not -2"),
    (lambda: CUBES.heads_of(16), "cube must be between 0 and 15, not 16"),
    (lambda: CUBES.tokens_of(-1, 4), "cube must be between 0 and 15, not -1"),
    (lambda: CUBES.tokens_of(1, -4), "tokens must be a whole number from 0 on, not -4"),
    (lambda: communication(CUBES, 1, bytes_each=0), "bytes_each must be a whole number from 1 on, not 0"),
    (lambda: kv_bytes(QWEN3_235B, -1), "tokens must be a whole number from 0 on, not -1"),
    (lambda: kv_bytes(QWEN3_235B, 1, bytes_each=1.5), "bytes_each must be a whole number from 1 on, not 1.5"),
    (lambda: kv_time(CUBES, 2.5), "tokens must be a whole number from 0 on, not 2.5"),
    (lambda: kv_time(CUBES, 2, bandwidth=0), "bandwidth must be a number above 0, not 0"),
    (lambda: projection_bytes(CUBES, bytes_each=-1), "bytes_each must be a whole number from 1 on, not -1"),
])
def test_numbers_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        wrong()
