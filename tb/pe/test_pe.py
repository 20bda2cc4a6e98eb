# amaranth: UnusedElaboratable=no
"""Every PE of the registry against its golden model: random slots, every control field, every build."""

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pe import PE_TYPES, PESpec
from hw.pe.mac import MacPE
from sw.golden.pe import PE_MODELS, SlotControl
from tb.sim import simulate

WIDTHS = [(8, 8, 24), (8, 4, 16), (8, 4, 12), (2, 3, 5)]
DATAFLOWS = [("ws", "os"), ("os", "ws"), ("ws",), ("os",)]
SLOTS = 1500


def random_control(rng: np.random.Generator, dataflows: tuple[str, ...]) -> SlotControl:
    """Return a legal control word of a build with `dataflows`; idle slots included."""
    fields = {}
    if "ws" in dataflows:
        fields |= {"select": int(rng.integers(2)), "load": int(rng.random() < 0.3)}
    if "os" in dataflows:
        accumulate = int(rng.random() < 0.6)
        fields |= {"accumulate": accumulate, "shift": int(rng.random() < 0.4),
                   "first": accumulate & int(rng.random() < 0.2), "last": accumulate & int(rng.random() < 0.2)}
    return SlotControl(**fields)


def random_operand(rng: np.random.Generator, width: int) -> int:
    """Return a two's complement value, extremes often."""
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    return int(rng.choice([low, high, 0])) if rng.random() < 0.2 else int(rng.integers(low, high + 1))


@pytest.mark.parametrize("dataflows", DATAFLOWS, ids="-".join)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("kind", PE_TYPES)
def test_random_slots(kind: str, widths: tuple[int, int, int], dataflows: tuple[str, ...]) -> None:
    spec = PESpec(kind=kind, activation_width=widths[0], weight_width=widths[1], psum_width=widths[2], dataflows=dataflows)
    dut, model = spec.create(), PE_MODELS[kind](psum_width=spec.psum_width)
    rng = np.random.default_rng(1)
    compared = {"product": 0, "drain": 0}

    async def bench(ctx):
        started = 0
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
            if control.shift and started > 1:
                assert ctx.get(dut.psum_out) == expected
                compared["drain"] += 1
            elif "ws" in dataflows and not control.accumulate and not control.shift:
                assert ctx.get(dut.psum_out) == expected
                compared["product"] += 1
            started += control.first

    simulate(dut, bench, seed=1)
    assert ("os" not in dataflows) or compared["drain"] > 100
    assert ("ws" not in dataflows) or compared["product"] > 100


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
