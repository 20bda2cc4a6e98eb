"""A mixture-of-experts layer on two engines: bits where the PIM runs it, closeness where both do, and what is refused."""

from fractions import Fraction

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.presets import PIM_PRESETS
from hw.presets import PRESETS
from sw.golden.device import GoldenDevice
from sw.golden.pim.device import GoldenPimDevice
from sw.golden.pim.moe import Expert, moe_layer, route
from sw.pim.balance import ArrayEngine, PimEngine, Split, split_experts
from sw.pim.experts import ArrayExperts, PimExperts, run_layer

EXPERTS, D, FF, TOP = 6, 32, 48, 2
PIM, ARRAY = PIM_PRESETS["pim-tiny"], PRESETS["float-4x4"]


def halves(rng, *shape):
    return (rng.normal(size=shape) / 4).astype(np.float16).astype(np.float32)


def layer(seed, tokens=24):
    """Return experts, x, its routing, and what the golden model makes of it."""
    rng = np.random.default_rng(seed)
    experts = [Expert(halves(rng, FF, D), halves(rng, FF, D), halves(rng, D, FF)) for _ in range(EXPERTS)]
    # A few experts are popular, as they are in models.
    router, x = halves(rng, EXPERTS, D) * np.float32(4), halves(rng, tokens, D) * np.float32(4)
    output, routing = moe_layer(experts, router, x, top=TOP, lanes=PIM.lanes, slots=PIM.n_acc_slots)
    return experts, x, routing, output


def engines(experts):
    numbered = dict(enumerate(experts))
    pim = GoldenPimDevice(PIM)
    return ArrayExperts(numbered, GoldenDevice(ARRAY)), PimExperts(numbered, pim.open(), PIM, pim.channels)


def by_tokens(routing):
    array = ArrayEngine(bandwidth=Fraction(8), gops=Fraction(32))
    pim = PimEngine(bandwidth=Fraction(32), rows_x=PIM.rows_x)
    return split_experts(routing.load(EXPERTS), 3 * D * FF * 2, array, pim)


def test_experts_on_the_pim_are_the_golden_layer():
    experts, x, routing, output = layer(1)
    used = tuple(int(number) for number in np.unique(routing.experts))
    run = run_layer(routing, x, Split((), used, Fraction(0)), *engines(experts))
    np.testing.assert_array_equal(run.output, output)
    assert sorted(run.cycles) == list(used)


def test_a_split_layer_adds_what_each_engine_makes():
    experts, x, routing, output = layer(2)
    split = by_tokens(routing)
    assert split.array
    assert split.pim
    array, pim = engines(experts)
    run = run_layer(routing, x, split, array, pim)
    # Experts on the PIM: those bits. On the array: sums in another order, and a hidden value may round to its neighbour.
    expected = np.zeros_like(x)
    for number in np.unique(routing.experts):
        token, place = np.nonzero(routing.experts == number)
        made, _ = (array if number in split.array else pim).run(int(number), x[token])
        expected[token] += made * routing.weights[token, place][:, None]
    np.testing.assert_array_equal(run.output, expected)
    only_pim = np.isin(routing.experts, split.pim).all(axis=1)
    assert 0 < only_pim.sum() < len(x)
    np.testing.assert_array_equal(run.output[only_pim], output[only_pim])
    hidden = max(np.abs((x @ expert.gate.T) * (x @ expert.up.T)).max() for expert in experts)
    assert np.abs(run.output - output).max() <= 2.0**-10 * FF * hidden * max(np.abs(expert.down).max() for expert in experts)


def test_the_engines_differ_only_by_roundings_and_orders():
    experts, x, _, _ = layer(3, tokens=7)
    array, pim = engines(experts)
    for number, expert in enumerate(experts):
        (one, _), (other, _) = array.run(number, x), pim.run(number, x)
        assert one.shape == other.shape == x.shape
        np.testing.assert_allclose(one, other, atol=2.0**-8 * np.abs(expert.down).sum(axis=1).max())
        assert np.abs(other).max() > 0.1


def test_what_does_not_fit_is_refused():
    experts, x, routing, _ = layer(4)
    split, both = by_tokens(routing), engines(experts)
    with pytest.raises(ConfigError, match=r"^x must be of 24 tokens, those of the routing, not of shape \(23, 32\)$"):
        run_layer(routing, x[1:], split, *both)
    with pytest.raises(ConfigError, match=r"^x must be values of float16, not such as 1e\+30$"):
        run_layer(routing, np.where(np.arange(24)[:, None] == 3, np.float32(1e30), x), split, *both)
    for on_pim in (split.pim[1:], (*split.array, *split.pim)):
        with pytest.raises(ConfigError, match=r"^split must have each expert with tokens on one list, \[0, 1, 2, 3, 4, 5\], not"):
            run_layer(routing, x, Split(split.array, on_pim, split.makespan), *both)
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig.activation_format must be float16 for experts, not int8$"):
        ArrayExperts({}, GoldenDevice(PRESETS["systolic-4x4"]))
    with pytest.raises(ConfigError, match=r"^a linear of \d+ outputs and \d+ inputs must end within \d+ bytes, a channel's"):
        PimExperts(dict.fromkeys(range(2000), experts[0]), both[1]._session, PIM, 2)
    assert route(np.zeros((1, 2), np.float32), 1).load(2) == [1, 0]
