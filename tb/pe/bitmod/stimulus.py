"""Groups of weights and activations as what a BitMoD PE gets in each cycle, and what it must make of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from flows.block_sim import pack_lanes
from hw.pe.bitmod.pe import BitmodPE
from hw.pe.bitmod.shape import BitmodShape
from hw.pe.bitmod.timing import BitmodTiming
from hw.pe.bitmod.unpack import ActivationUnpack
from sw.golden.pe.bitmod import PRECISIONS, group_sums, terms

__all__ = ["Groups", "UnpackedPE", "drive", "random_groups"]

RESULTS = ("product", "exponent")
SPECIALS = {"fp4": (5.0, -5.0, 8.0, -8.0), "fp3": (3.0, -3.0, 6.0, -6.0)}


class UnpackedPE(wiring.Component):
    """A PE with what it has around it: activations taken apart, operands delayed for its second stage, its schedule."""

    latency = 0

    def __init__(self, shape: BitmodShape):
        self._pe, self._unpack, self._timing = BitmodPE(shape), ActivationUnpack(shape), BitmodTiming()
        kept = {name: member for name, member in self._pe.signature.members.items() if name in RESULTS}
        unpacked = self._unpack.signature.members
        super().__init__({
            **kept, "words": unpacked["words"], "flushed": unpacked["flushed"], "terms": self._pe.signature.members["lane_terms"],
            "valid": In(1), "first": In(1), "last": In(1), "significance": In(3), "scale_bit": In(1), "done": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.pe, m.submodules.unpack, m.submodules.timing = pe, unpack, timing = self._pe, self._unpack, self._timing
        m.d.comb += [unpack.words.eq(self.words), self.flushed.eq(unpack.flushed), pe.scale_bit.eq(self.scale_bit)]
        m.d.comb += [getattr(timing, name).eq(getattr(self, name)) for name in ("valid", "first", "last", "significance")]
        m.d.comb += [getattr(self, name).eq(getattr(pe, name)) for name in RESULTS if name in self.signature.members]
        m.d.comb += [getattr(pe, name).eq(getattr(timing, name)) for name in ("align", "accumulate", "scale")
                     if name in pe.signature.members]
        m.d.comb += self.done.eq(timing.done)
        for name, source in (("activations", unpack.o), ("terms", self.terms)):
            m.d.sync += getattr(pe, f"lane_{name}").eq(source)
            if name in pe.signature.members:
                m.d.comb += getattr(pe, name).eq(source)
        return m


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Groups of one precision and size: activation words and codes (n, G), special values and scales (n,)."""

    precision: str
    words: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    specials: npt.NDArray[np.float64]
    scales: npt.NDArray[np.int64]

    @property
    def cycles(self) -> int:
        """Cycles of a group: 2 to 4 for each four weights."""
        return self.words.shape[1] // 4 * PRECISIONS[self.precision].terms


def random_groups(rng: np.random.Generator, precision: str, words: npt.NDArray[np.int64]) -> Groups:
    """Return groups of these activations with random weights, special values and scales."""
    count = len(words)
    return Groups(precision=precision, words=words, codes=rng.integers(0, 1 << PRECISIONS[precision].element.bits, words.shape),
                  specials=rng.choice(SPECIALS.get(precision, (0.0,)), count), scales=rng.integers(0, 256, count))


def _terms(groups: Groups) -> npt.NDArray[np.int64]:
    """Return the terms of every weight as the PE takes them (man, exp, sign from bit 0 up): (n, G, terms)."""
    size = 1 << PRECISIONS[groups.precision].element.bits
    packed = {special: np.array([[term.man | term.exp << 1 | term.sign << 3 for term in terms(groups.precision, code, special)]
                                 for code in range(size)]) for special in np.unique(groups.specials).tolist()}
    return np.array([packed[special][codes] for special, codes in zip(groups.specials.tolist(), groups.codes, strict=True)])


def drive(sim: Any, shape: BitmodShape, batches: list[Groups], *, stall: float = 0.0, seed: int = 0) -> list[int]:
    """Run groups one after the other and compare every product, its exponent and its cycle; return the cycles of `done`.

    sim: a function from port → values to output → values, one cycle a row. stall: the part of cycles without a term.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {name: [] for name in ("first", "last", "significance", "words", "terms")}
    scales, products, exponents = [], [], []
    for groups in batches:
        count, steps = len(groups.words), groups.words.shape[1] // 4
        significances = [term.significance for term in terms(groups.precision, 0)]
        per_step = len(significances)
        lanes = _terms(groups).reshape(count, steps, 4, per_step).transpose(0, 1, 3, 2).reshape(-1, 4)
        place = np.arange(steps * per_step)
        rows["first"].append(np.tile(place == 0, count))
        rows["last"].append(np.tile(place == steps * per_step - 1, count))
        rows["significance"].append(np.tile(significances, count * steps))
        rows["words"].append(np.repeat(groups.words.reshape(-1, 4), per_step, axis=0))
        rows["terms"].append(lanes)
        mantissa, exponent = group_sums(shape.activation, groups.words, groups.precision, groups.codes, groups.specials)
        scales.append(groups.scales)
        products.append(mantissa * groups.scales)
        exponents.append(exponent)
    columns = {name: np.concatenate(parts) for name, parts in rows.items()}
    total = len(columns["first"])
    cycle = np.arange(total) + np.cumsum(rng.geometric(1 - stall, total) - 1 if stall else np.zeros(total, np.int64))
    length = int(cycle[-1]) + BitmodTiming.latency + 2
    scale, product, exponent = (np.concatenate(parts) for parts in (scales, products, exponents))

    inputs: dict[str, npt.NDArray[Any]] = {"valid": np.zeros(length, np.uint8), "scale_bit": rng.integers(0, 2, length)}
    inputs["valid"][cycle] = 1
    for name, column in columns.items():
        noise = rng.integers(0, 2 if column.ndim == 1 else 8, (length, *column.shape[1:]))
        noise[cycle] = column
        inputs[name] = noise
    inputs["words"], inputs["terms"] = (pack_lanes(inputs[name], width)
                                        for name, width in (("words", shape.activation.bits), ("terms", 4)))
    ends = cycle[columns["last"]]
    for bit in range(8):
        inputs["scale_bit"][ends + BitmodTiming.scale_latency + bit] = scale >> 7 - bit & 1
    found = sim(inputs)
    done = np.flatnonzero(found["done"])
    np.testing.assert_array_equal(done, ends + BitmodTiming.latency)
    np.testing.assert_array_equal(found["product"][done], product)
    if shape.is_float:
        np.testing.assert_array_equal(found["exponent"][done], exponent)
    # A result stays until the next group's scale starts.
    until = np.minimum(np.append(ends[1:], length) + BitmodTiming.scale_latency, length - 1)
    np.testing.assert_array_equal(found["product"][until], product)
    if shape.is_float:
        np.testing.assert_array_equal(found["exponent"][until], exponent)
    assert len(done) > 0
    return [int(place) for place in done]
