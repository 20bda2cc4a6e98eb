"""Attention on an INT4 KV cache: sums bit for bit those of the definition, the output within a bound of float64."""

import dataclasses

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.device import GoldenPimDevice
from sw.golden.pim.operands import ways_of
from sw.golden.pim.saturating import saturating_bcast, saturating_tree
from sw.pim.checker import check
from sw.pim.kv_attention import KvPlan, context_inputs, context_program, score_inputs, scores_program
from sw.pim.kv_softmax import probabilities, quantized_queries, quantized_tokens, scaled_context
from sw.pim.program import write_rows

P3 = dataclasses.replace(PIM_PRESETS["pim-tiny"], wtype="bitmod4", kvtype="p3-kv", xtype="float8_e4m3fn", ptype="float8_s0e4m4",
                         acc="int32", lanes=64, k_tile=256, n_acc_slots=2)
PLAN = KvPlan(config=P3, head_dim=128, max_tokens=200)
FULL = KvPlan(config=dataclasses.replace(PIM_PRESETS["pim-p3"], n_pch=1, dram_rows=8), head_dim=128, max_tokens=600)


def rows_of(result, name, config):
    """Return (X, entries · lanes) of an output stream, and of a score stream lane 0."""
    entries = result.outputs[name].view(config.acc).reshape(-1, config.rows_x, config.width)
    return entries.transpose(1, 0, 2)


def attend(plan, session, tokens, seed=1):
    """Run an attention on a session; return what the bench compares."""
    config, rng = plan.config, np.random.default_rng(seed)
    queries = rng.standard_normal((2, plan.head_dim)).astype(np.float32)
    keys, values = (rng.standard_normal((tokens, plan.head_dim)).astype(np.float32) for _ in range(2))
    smoothing = np.abs(keys).max(axis=0)
    k, v = quantized_tokens(config, keys, smoothing=smoothing), quantized_tokens(config, values)
    q, scale = quantized_queries(config, queries, smoothing=smoothing)
    for number, part in enumerate((k, v)):
        write_rows(config, session.memory[0], plan.addr + number * plan.size, plan.image(part.codes))
    program = scores_program(plan, tokens)
    result = session.run(program, None, score_inputs(plan, program, q, k.sides[:, 0]))
    parts = [rows_of(result, stream.name, config)[:, :, :config.segments] for stream in program.outputs]
    found = np.concatenate([part.reshape(config.rows_x, -1) for part in parts], axis=1)[:, :tokens]
    p, factors = probabilities(config, found[:2], scale, k, v)
    program = context_program(plan, tokens)
    result = session.run(program, None, context_inputs(plan, program, p, v.sides[:, 0]))
    context = rows_of(result, "o", config).reshape(config.rows_x, -1)
    return (q, scale, k, v, p, smoothing), found[:2], context[:2], scaled_context(config, context[:2], factors)


@pytest.mark.parametrize(("plan", "tokens"), [
    *((PLAN, tokens) for tokens in (1, 2, 31, 32, 63, 64, 65, 150, 200)),
    *((FULL, tokens) for tokens in (1, 2, 127, 128, 129, 511))])
def test_sums_are_those_of_the_definition_and_the_output_is_near_float64(plan, tokens):
    config = plan.config
    (q, scale, k, v, p, _), scores, context, output = attend(plan, GoldenPimDevice(config, 1).open(), tokens)
    _, (weight, query), (_, probability) = ways_of(config)
    integers = weight.integers(k.codes, k.sides), weight.integers(v.codes, v.sides)
    np.testing.assert_array_equal(scores.T, saturating_tree(integers[0], query.integers(q), lanes=config.width,
                                                            slots=config.n_acc_slots))
    np.testing.assert_array_equal(context, saturating_bcast(integers[1], probability.integers(p), slots=config.n_acc_slots,
                                                            segments=config.segments))
    # Exact attention of the quantized queries, keys and values: what is left is the rounding of the weights, half a unit of 4
    # fraction bits or of the least of subnormal ones, and of the result to float32.
    levels = query.values(q).astype(np.float64) * scale[:, None]
    exact = np.exp((s := levels @ (integers[0] * k.scales.astype(np.float64)).T / np.sqrt(128)) - s.max(axis=1, keepdims=True))
    total, of_values = exact.sum(axis=1, keepdims=True), np.abs(integers[1])
    weights = exact * v.scales[:, 0]
    bound = (2.0**-5 * weights @ of_values + 2.0**-19 * weights.max(axis=1, keepdims=True) * of_values.sum(axis=0)) / total
    error = np.abs(output - exact @ (integers[1] * v.scales.astype(np.float64)) / total)
    assert (error <= bound * (1 + 2.0**-20) + 2.0**-20).all()
    assert tokens < 3 or error.max() > 0


def test_smoothing_is_in_the_queries():
    (q, scale, k, _, _, smoothing), *_ = attend(PLAN, GoldenPimDevice(P3, 1).open(), 20)
    weight, query = ways_of(P3)[1]
    keys = weight.integers(k.codes, k.sides) * k.scales * smoothing
    queries = query.values(q) * scale[:, None] / smoothing
    rng = np.random.default_rng(1)
    np.testing.assert_allclose(queries, rng.standard_normal((2, 128)), atol=0.3)
    assert np.abs(keys - rng.standard_normal((20, 128))).max() < 0.35


def test_lists_are_sound_and_programs_refuse_too_many_tokens():
    for make in (scores_program, context_program):
        assert check(P3, [int(word) for word in make(PLAN, 130).lists[0]]).hazards == ()
        for tokens in (0, 201):
            with pytest.raises(ConfigError, match=rf"^tokens must be between 1 and 200, not {tokens}$"):
                make(PLAN, tokens)


@pytest.mark.parametrize(("changes", "message"), [
    ({"head_dim": 96}, ("KvPlan.head_dim must be whole beats of 64, that divide a burst or are whole ones of a row, not 96")),
    ({"head_dim": 256}, "KvPlan.head_dim must be at most 128, what the buffers hold, not 256"),
    ({"addr": 5}, "KvPlan.addr must be a multiple of 32768, a row of all sets, not 5"),
    ({"max_tokens": 1 << 20}, "KvPlan.max_tokens must be between 1 and 16384, what the rows hold, not 1048576"),
])
def test_heads_that_do_not_fit(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(PLAN, **changes)
