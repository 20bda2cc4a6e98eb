# amaranth: UnusedElaboratable=no
"""Every PE of the registry against its golden model: random slots, every control field, every build."""

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pe import PE_TYPES, PESpec
from hw.pe.mac import MacPE
from sw.golden.pe import PE_MODELS
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
    with pytest.raises(ConfigError, match=r"^PESpec\.kind must be one of mac, not 'cam'$"):
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
