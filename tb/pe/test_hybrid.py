# amaranth: UnusedElaboratable=no
"""The hybrid array's PE, slot by slot, against what its docstring says."""

import re

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pe.hybrid import HybridPE
from tb.sim import simulate

SIZES = {"activation_width": 8, "weight_width": 8, "element_width": 4, "psum_width": 20}


def signed4(nibble: int) -> int:
    return (nibble ^ 8) - 8


@pytest.mark.parametrize(("lanes", "cluster"), [(1, False), (1, True), (3, True)])
def test_any_slots(lanes: int, cluster: bool) -> None:
    rng = np.random.default_rng(lanes + cluster)
    dut = HybridPE(**SIZES, lanes=lanes, cluster=cluster)

    async def drive(ctx):
        stationary, kept = [None, None], None
        for index in range(200):
            # First both registers, so that every product is known.
            select, load, capture, streamed = (int(x) for x in rng.integers(0, 2, 4))
            if index < 2:
                select, load, capture = index, 1, 0
            activation, weight, psum = (int(rng.integers(-128, 128)) for _ in range(3))
            nibbles = [int(x) for x in rng.integers(0, 16, lanes)]
            word = sum(nibble << 4 * lane for lane, nibble in enumerate(nibbles))
            ctx.set(dut.control, {"select": select, "load": load, "streamed": streamed})
            for name, value in (("activation", activation), ("weight", weight), ("psum", psum), ("capture", capture),
                                ("words", word)):
                ctx.set(getattr(dut, name), value)
            factor = signed4(nibbles[0]) if cluster and streamed else stationary[select]
            if capture:
                stationary[1 - select] = signed4(nibbles[-1])
            elif load:
                stationary[1 - select] = weight
            await ctx.tick()
            if factor is not None:
                assert ctx.get(dut.psum_out) == psum + activation * factor
            assert (ctx.get(dut.weight_out), ctx.get(dut.capture_out)) == (weight, capture)
            passed = nibbles[1:] if cluster and lanes > 1 else nibbles
            assert ctx.get(dut.words_out) == sum(nibble << 4 * lane for lane, nibble in enumerate(passed))
            if not (cluster and lanes == 1 and streamed):       # the last cluster keeps the activation of a streamed slot
                kept = activation
            if kept is not None:
                assert ctx.get(dut.activation_out) == kept

    simulate(dut, drive)


@pytest.mark.parametrize(("change", "text"), [
    ({"lanes": 0}, "lanes must be at least 1, not 0"),
    ({"psum_width": 15}, "psum_width must be at least 16 (a product), not 15")])
def test_impossible_parameters(change: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"HybridPE.{text}") + "$"):
        HybridPE(**(SIZES | {"lanes": 2, "cluster": True} | change))
