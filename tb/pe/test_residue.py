# amaranth: UnusedElaboratable=no
"""The PE of residues: slot by slot what the golden multiply-accumulate PE does, modulo 2^b − 1."""

from typing import Any

import numpy as np
import pytest
from amaranth import signed, unsigned

from hw.errors import ConfigError
from hw.pe.residue import ResiduePE
from sw.golden.pe import PE_MODELS
from tb.pe.slots import random_control
from tb.sim import simulate


@pytest.mark.parametrize("dataflows", [("ws",), ("os",), ("ws", "os")], ids="-".join)
@pytest.mark.parametrize(("activation", "bits"), [(signed(8), 8), (unsigned(2), 2), (unsigned(4), 4)], ids=["abft", "3", "15"])
def test_slots(activation: Any, bits: int, dataflows: tuple[str, ...]) -> None:
    """The model has wide words, so that nothing wraps, and what it says is taken modulo 2^b − 1."""
    dut, rng = ResiduePE(activation=activation, bits=bits, dataflows=dataflows), np.random.default_rng(bits)
    modulus = (1 << bits) - 1
    model, seen = PE_MODELS["mac"]((), psum_width=60), 0
    lowest, highest = (-128, 128) if activation.signed else (0, 1 << bits)

    async def bench(ctx: Any) -> None:
        nonlocal seen
        ready = False                                       # the drain register has been written
        expected = None
        for index in range(300):
            control = random_control(rng, dataflows)
            if index == 0 and control.accumulate:
                control = type(control)(accumulate=1, first=1, last=1)
            a = int(rng.integers(lowest, highest))
            w, p = (int(x) for x in rng.integers(0, 1 << bits, 2))
            if expected is not None:
                assert ctx.get(dut.psum_out) % modulus == expected % modulus, f"slot {index - 1}"
                seen += 1
            for name in dut.control.shape().members:
                ctx.set(dut.control[name], int(getattr(control, name)))
            ctx.set(dut.activation, a)
            ctx.set(dut.weight, w)
            ctx.set(dut.psum, p)
            result = int(model.step(control, np.int64(a), np.int64(w), np.int64(p)))
            defined = ready if control.shift else "ws" in dataflows and not control.accumulate
            expected = result if defined else None
            ready |= bool(control.last)
            await ctx.tick()
            assert ctx.get(dut.weight_out) == w

    simulate(dut, bench)
    assert seen > 40


def test_bad_bits() -> None:
    with pytest.raises(ConfigError, match=r"^ResiduePE\.bits must be at least 2, not 1$"):
        ResiduePE(activation=unsigned(1), bits=1, dataflows=("ws",))
