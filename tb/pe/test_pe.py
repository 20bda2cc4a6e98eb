# amaranth: UnusedElaboratable=no
"""Every PE of the registry against its golden model: random slots, every control field, every build."""

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pe import PE_TYPES, PESpec
from hw.pe.mac import MacPE
from sw.golden.pe import PE_MODELS, SlotControl
from tb.pe.slots import random_control, random_operand
from tb.sim import simulate

WIDTHS = [(8, 8, 24), (8, 4, 16), (8, 4, 12), (2, 3, 5)]
DATAFLOWS = [("ws", "os"), ("os", "ws"), ("ws",), ("os",)]
SLOTS = 800


@pytest.mark.parametrize("dataflows", DATAFLOWS, ids="-".join)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("kind", PE_TYPES)
def test_random_slots(kind: str, widths: tuple[int, int, int], dataflows: tuple[str, ...]) -> None:
    spec = PESpec(kind=kind, activation_width=widths[0], weight_width=widths[1], psum_width=widths[2], dataflows=dataflows)
    dut, model = spec.create(), PE_MODELS[kind](psum_width=spec.psum_width)
    rng = np.random.default_rng(1)
    compared = {"product": 0, "drain": 0}

    async def bench(ctx):
        summed = False                                   # the drain register has been written
        for _ in range(SLOTS):
            control = random_control(rng, dataflows)
            activation, weight, psum = (random_operand(rng, width) for width in widths)
            expected = model.step(control, np.int64(activation), np.int64(weight), np.int64(psum))
            ctx.set(dut.activation, activation)
            ctx.set(dut.weight, weight)
            ctx.set(dut.psum, psum)
            word = {name: getattr(control, name) for name in dut.control.shape().members}
            ctx.set(dut.control, word)
            await ctx.tick()
            assert ctx.get(dut.activation_out) == activation
            assert ctx.get(dut.weight_out) == weight
            assert ctx.get(dut.control_out.as_value()) == dut.control.shape().const(word).as_value().value
            if control.shift and summed:
                assert ctx.get(dut.psum_out) == expected
                compared["drain"] += 1
            elif "ws" in dataflows and not control.accumulate and not control.shift:
                assert ctx.get(dut.psum_out) == expected
                compared["product"] += 1
            summed |= bool(control.last)

    simulate(dut, bench, seed=1)
    assert ("os" not in dataflows) or compared["drain"] > 50
    assert ("ws" not in dataflows) or compared["product"] > 50


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (3, 7, 2), (4, 16, 5)])
@pytest.mark.parametrize("kind", PE_TYPES)
def test_product_of_a_tile_is_what_the_slots_add_up_to(kind: str, m: int, k: int, n: int) -> None:
    """Golden models agree with themselves: `product`, k rows of PEs (WS), and k steps of m×n PEs with their drain (OS)."""
    rng, width = np.random.default_rng(k), 24
    activations, weights = rng.integers(-128, 128, (m, k)), rng.integers(-8, 8, (k, n))
    product = PE_MODELS[kind](psum_width=width).product(activations.astype(np.int8), weights.astype(np.int8))
    assert product.shape == (m, n)
    assert product.dtype == np.int64

    for row, expected in zip(activations, product, strict=True):
        psum = np.zeros(n, np.int64)
        for activation, weight in zip(row, weights, strict=True):
            pes = PE_MODELS[kind]((n,), psum_width=width)
            pes.step(SlotControl(load=1, select=1), np.int64(0), weight, psum)
            psum = pes.step(SlotControl(select=0), activation, np.zeros(n, np.int64), psum)
        assert list(psum) == list(expected)

    pes = PE_MODELS[kind]((m, n), psum_width=width)
    for step in range(k):
        control = SlotControl(accumulate=1, first=int(step == 0), last=int(step == k - 1))
        pes.step(control, activations[:, step:step + 1], weights[step:step + 1], np.int64(0))
    assert (pes.step(SlotControl(shift=1), np.int64(0), np.int64(0), np.int64(0)) == product).all()


@pytest.mark.parametrize(("m", "k", "n"), [(2, 9, 3), (5, 1100, 2)])
def test_exact_models_multiply_matrices(m: int, k: int, n: int) -> None:
    """What a model that calls itself exact promises: also where float32 would round."""
    exact = [kind for kind, model in PE_MODELS.items() if model.exact]
    assert exact
    activations, weights = np.full((m, k), -128, np.int8), np.full((k, n), -128, np.int8)
    activations[0, 0] = weights[0, 0] = 127
    for kind in exact:
        product = PE_MODELS[kind](psum_width=40).product(activations, weights)
        assert (product == activations.astype(np.int64) @ weights.astype(np.int64)).all()


def test_registries_agree() -> None:
    assert set(PE_MODELS) == set(PE_TYPES)


@pytest.mark.parametrize(("change", "message"), [
    ({"activation_width": 0}, r"^MacPE\.activation_width must be at least 1, not 0$"),
    ({"weight_width": -1}, r"^MacPE\.weight_width must be at least 1, not -1$"),
    ({"psum_width": 15}, r"^MacPE\.psum_width must be at least 16 \(a product\), not 15$"),
    ({"dataflows": ()}, r"^MacPE\.dataflows must be a non-empty choice of 'ws' and 'os', not \(\)$"),
    ({"dataflows": ("is",)}, r"^MacPE\.dataflows must be a non-empty choice of 'ws' and 'os', not \('is',\)$"),
])
def test_bad_parameters(change: dict, message: str) -> None:
    good = {"activation_width": 8, "weight_width": 8, "psum_width": 24, "dataflows": ("ws", "os")}
    with pytest.raises(ConfigError, match=message):
        MacPE(**(good | change))


def test_unknown_kind() -> None:
    with pytest.raises(ConfigError, match=rf"^PESpec\.kind must be one of {', '.join(PE_TYPES)}, not 'cam'$"):
        PESpec(kind="cam", activation_width=8, weight_width=8, psum_width=24, dataflows=("ws",))


def test_extremes_are_exact() -> None:
    """The most negative operands over the longest sum that a configuration allows fit into its psum."""
    spec = PESpec(kind="mac", activation_width=8, weight_width=8, psum_width=16 + 4, dataflows=("os",))
    dut = spec.create()

    async def bench(ctx):
        ctx.set(dut.activation, -128)
        ctx.set(dut.weight, -128)
        for step in range(16):
            ctx.set(dut.control, {"accumulate": 1, "first": step == 0, "last": step == 15})
            await ctx.tick()
        ctx.set(dut.control, {"shift": 1})
        await ctx.tick()
        assert ctx.get(dut.psum_out) == 16 * 128 * 128

    simulate(dut, bench)
