"""Decode steps of mixture-of-experts models on an array with and without PIM."""

import dataclasses
from fractions import Fraction

import pytest

from hw.errors import ConfigError
from hw.pim.presets import PIM_PRESETS
from sw.pim.balance import ArrayEngine
from sw.pim.system import H100, MODELS, MoeModel, expert_loads, pim_engine, step

MIXTRAL = MODELS["Mixtral-47B"]
PIM = pim_engine(PIM_PRESETS["pim-duplex"], stacks=5)


@pytest.mark.parametrize(("name", "billions", "layers"), [
    ("Mixtral-47B", 47, 32), ("Grok1-314B", 314, 64), ("Llama3-70B", 70, 80), ("OPT-66B", 66, 64),
])
def test_layers_have_the_weights_that_the_name_says(name, billions, layers):
    model = MODELS[name]
    weights = layers * (model.projection_bytes + model.experts * model.expert_bytes) / 2
    assert weights / 1e9 == pytest.approx(billions, rel=0.05)


def test_rate_of_the_dies():
    assert float(pim_engine(PIM_PRESETS["pim-duplex"]).bandwidth) == pytest.approx(2662, rel=1e-3)      # by the MACs
    assert float(PIM.efficiency) == pytest.approx(0.685, abs=5e-4)
    turns = pim_engine(PIM_PRESETS["pim-duplex"], ping_pong=True, refresh=False)
    assert turns.efficiency == 1
    assert float(pim_engine(PIM_PRESETS["pim-amma"]).bandwidth) == pytest.approx(2750, rel=2e-3)        # by the DRAM


def test_loads_add_up():
    loads = expert_loads(MIXTRAL, 100, alpha=2, seed=1)
    assert sum(loads) == 200
    assert loads == expert_loads(MIXTRAL, 100, alpha=2, seed=1)
    assert loads != expert_loads(MIXTRAL, 100, alpha=2, seed=2)


def test_parts_by_hand():
    simple = MoeModel(model=64, hidden=128, heads=4, group=2, experts=2, top=1)
    array = ArrayEngine(bandwidth=Fraction(1), gops=Fraction(10**6))
    got = step(simple, 3, 10, [3, 0], array)
    assert got.projections == 2 * 64 * 96 * 2
    assert got.attention == 3 * 2 * 32 * 10 * 2
    assert got.experts == 3 * 64 * 128 * 2
    assert got.total == got.projections + got.attention + got.experts


def test_pim_helps_most_where_weights_are_used_least():
    def gain(batch):
        loads = expert_loads(MIXTRAL, batch, alpha=10, seed=3)
        return step(MIXTRAL, batch, 1024, loads, H100).total / step(MIXTRAL, batch, 1024, loads, H100, PIM).total

    assert gain(8) > gain(64) > gain(512) >= 1


def test_projections_stay_and_attention_gains_the_bandwidth():
    loads = [4] * 8
    alone, beside = (step(MIXTRAL, 16, 4096, loads, H100, pim) for pim in (None, PIM))
    assert alone.projections == beside.projections
    assert float(alone.attention / beside.attention) == pytest.approx(float(PIM.bandwidth * PIM.efficiency / 3350))
    assert beside.experts < alone.experts


def test_loads_that_do_not_add_up_are_refused():
    with pytest.raises(ConfigError, match=r"^loads must add up to batch · top \(8\), not 7$"):
        step(MIXTRAL, 4, 128, [7] + [0] * 7, H100)


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda: dataclasses.replace(MIXTRAL, hidden=0), "MoeModel.hidden must be a whole number from 1 on, not 0"),
    (lambda: dataclasses.replace(MIXTRAL, top=9), "MoeModel.top must be between 1 and 8, not 9"),
    (lambda: dataclasses.replace(MIXTRAL, heads=24), r"MoeModel.heads must be a divisor of model \(4096\), not 24"),
    (lambda: dataclasses.replace(MIXTRAL, group=3), r"MoeModel.group must be a divisor of heads \(32\), not 3"),
    (lambda: MIXTRAL.kv_bytes(-1), "context must be a whole number from 0 on, not -1"),
    (lambda: pim_engine(PIM_PRESETS["pim-duplex"], stacks=0), "stacks must be a whole number from 1 on, not 0"),
    (lambda: expert_loads(MIXTRAL, -1, alpha=1, seed=1), "tokens must be a whole number from 0 on, not -1"),
    (lambda: expert_loads(MIXTRAL, 1, alpha=0, seed=1), "alpha must be a number above 0, not 0"),
    (lambda: expert_loads(MIXTRAL, 1, alpha=1, seed=-1), "seed must be a whole number from 0 on, not -1"),
    (lambda: step(MIXTRAL, 0, 128, [0] * 8, H100), "batch must be a whole number from 1 on, not 0"),
    (lambda: step(MIXTRAL, 4, 128, [1] * 8 + [0], H100), "loads must be one for each of 8 experts, not 9"),
    (lambda: step(MIXTRAL, 4, 128, [10, -2] + [0] * 6, H100), "load of expert 1 must be a whole number from 0 on, not -2"),
])
def test_numbers_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        wrong()
