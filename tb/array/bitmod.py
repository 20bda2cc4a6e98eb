"""Products for a BitMoD tile: what goes in, step by step, and the rows that must come out, in which cycles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Value
from amaranth.lib.wiring import Out

from flows.block_sim import BlockSim, unpack_lanes
from hw.array.bitmod_array import BitmodArray, bitmod_step_layout
from hw.array.bitmod_tile import BitmodTile
from hw.elements import Element
from hw.pe.bitmod.precision import PRECISIONS as RTL_PRECISIONS
from sw.golden.array.bitmod import product
from sw.golden.pe.bitmod import PRECISIONS
from tb.sim import simulate

__all__ = ["PythonSim", "TileProduct", "drive", "random_product", "step_words"]

SPECIALS = (5.0, -5.0, 8.0, -8.0)       # as the tile's registers are after reset


@dataclass(frozen=True, kw_only=True)
class TileProduct:
    """One result of a tile: activation words (R, K), codes (C, K), scales and indices of special values (C, groups)."""

    precision: str
    group: int
    activations: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    scales: npt.NDArray[np.int64]
    specials: npt.NDArray[np.int64]

    @property
    def terms(self) -> int:
        """Cycles of a step."""
        return PRECISIONS[self.precision].terms

    @property
    def group_steps(self) -> list[int]:
        """Steps of each group, of which the last may be shorter."""
        k = self.codes.shape[1]
        return [-(-min(self.group, k - start) // 4) for start in range(0, k, self.group)]

    def expected(self, element: Element, specials: tuple[float, ...]) -> npt.NDArray[np.uint64]:
        """Return the result, (R, C) float32 words."""
        values = np.array(specials)[self.specials]
        return product(element, self.activations, self.codes, self.scales, values, precision=self.precision, group=self.group)


def random_product(rng: np.random.Generator, element: Element, rows: int, columns: int, k: int, precision: str,
                   group: int) -> TileProduct:
    """Return a product with normally distributed activations and everything else uniformly distributed."""
    numbers = rng.normal(size=(rows, k))
    words = np.rint(40 * numbers).clip(-128, 127).astype(np.int64) & 0xFF if element.bits == 8 \
        else numbers.astype(np.float16).view(np.uint16).astype(np.int64)
    groups = -(-k // group)
    return TileProduct(precision=precision, group=group, activations=words,
                       codes=rng.integers(0, 1 << PRECISIONS[precision].element.bits, (columns, k)),
                       scales=rng.integers(0, 256, (columns, groups)), specials=rng.integers(0, 4, (columns, groups)))


def step_words(tile: BitmodTile | BitmodArray, item: TileProduct) -> list[int]:
    """Return the steps of a product as words of the stream; a step that K does not fill gets zero activations."""
    layout = bitmod_step_layout(tile.shape, tile.rows, tile.columns)
    k, found = item.codes.shape[1], []
    for group, start in enumerate(range(0, k, item.group)):
        end = min(start + item.group, k)
        for low in range(start, end, 4):
            used = slice(low, min(low + 4, end))
            padding = ((0, 0), (0, low + 4 - used.stop))
            fields: dict[str, Any] = {
                "activations": np.pad(item.activations[:, used], padding).tolist(),
                "codes": np.pad(item.codes[:, used], padding).tolist(),
                "specials": item.specials[:, group].tolist(), "scales": item.scales[:, group].tolist(),
                "precision": RTL_PRECISIONS[item.precision], "group_last": low + 4 >= end, "last": low + 4 >= k,
            }
            found.append(layout.const(fields).as_value().value)
    return found


class PythonSim:
    """Amaranth's own simulator with the interface of `BlockSim.run`, for tiles that take a compiler long and few cycles."""

    def __init__(self, tile: BitmodTile):
        self._tile = tile

    def run(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
        """Return the outputs of every cycle."""
        ports = {"__".join(map(str, path)): (member.flow, Value.cast(value))
                 for path, member, value in self._tile.signature.flatten(self._tile)}
        found: dict[str, list[Any]] = {name: [] for name, (flow, _) in ports.items() if flow is Out}
        cycles = len(np.asarray(inputs["i__valid"]))

        async def bench(ctx: Any) -> None:
            for cycle in range(cycles):
                for name, column in inputs.items():
                    word = np.asarray(column)
                    word = word[cycle] if word.ndim else word
                    number = int.from_bytes(word.tobytes(), "little") if word.ndim else int(word)
                    ctx.set(ports[name][1], number)
                for name, listed in found.items():
                    listed.append(ctx.get(ports[name][1]))
                await ctx.tick()

        simulate(self._tile, bench)
        results = {name: np.array(listed, np.uint64) for name, listed in found.items() if len(ports[name][1]) <= 64}
        for name in found.keys() - results.keys():
            size = -(-len(ports[name][1]) // 64) * 8
            results[name] = np.frombuffer(b"".join(number.to_bytes(size, "little") for number in found[name]),
                                          np.uint64).reshape(cycles, -1)
        return results


def drive(sim: BlockSim | PythonSim, tile: BitmodTile, products: list[TileProduct], *,
          program: tuple[float, float, float, float] | None = None, stall: float = 0.0, seed: int = 0) -> list[int]:
    """Run products one after the other; compare every row, and the cycle in which it comes; return the cycles of first rows.

    program: special values to write first. stall: part of the cycles in which no step is offered.
    """
    rng = np.random.default_rng(seed)
    words = [word for item in products for word in step_words(tile, item)]
    width = bitmod_step_layout(tile.shape, tile.rows, tile.columns).size
    packed = np.array([np.frombuffer(word.to_bytes(-(-width // 64) * 8, "little"), np.uint64) for word in words])

    # When each step is taken follows from when it is offered, how many terms it has, and how long groups must at least take.
    least = tile.rows + 8
    offered = 4 if program else 0
    offers, accepted, first_rows = [], [], []
    free, group_end = 0, -least
    for item in products:
        for steps in item.group_steps:
            for step in range(steps):
                offered += int(rng.geometric(1 - stall)) - 1 if stall else 0
                taken = max(offered, free)
                offers.append(offered)
                accepted.append(taken)
                free = taken + item.terms
                if step == steps - 1:
                    free = max(free, group_end + least)
                    group_end = free
                offered = taken + 1
        first_rows.append(group_end + tile.latency)
    length = first_rows[-1] + tile.rows + 2
    valid = np.zeros(length, np.uint8)
    payload = rng.integers(0, 1 << 63, (length, packed.shape[1])).astype(np.uint64)
    payload[:, -1] &= np.uint64((1 << (width - 1) % 64 + 1) - 1)
    for start, taken, word in zip(offers, accepted, packed, strict=True):       # an offer stays until it is taken
        valid[start:taken + 1], payload[start:taken + 1] = 1, word
    writes = {name: np.zeros(length, np.int64) for name in ("special_write", "special_addr", "special_value")}
    for index, value in enumerate(program or ()):
        writes["special_write"][index], writes["special_addr"][index], writes["special_value"][index] = 1, index, round(2 * value)
    found = sim.run({"i__valid": valid, "i__payload": payload, **writes})
    np.testing.assert_array_equal(np.flatnonzero(found["i__ready"] & valid), accepted)
    rows = np.flatnonzero(found["o_valid"])
    expected_rows = (np.array(first_rows)[:, None] + np.arange(tile.rows)).ravel()
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(found["o_row"][rows], np.tile(np.arange(tile.rows), len(products)))
    results = unpack_lanes(found["o"][rows], 32, tile.columns)
    expected = np.concatenate([item.expected(tile.shape.activation, program or SPECIALS) for item in products])
    np.testing.assert_array_equal(results, expected)
    assert found["busy"][accepted[0] + 1:rows[-1] + 1].all()
    assert not found["busy"][-1]
    assert not found["rejected"].any()
    return first_rows
