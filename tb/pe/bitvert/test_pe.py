# amaranth: UnusedElaboratable=no
"""BitVert PE with its scheduler and ΣA: every redundant × dropped × constant; published vectors; extremes. Stripes PE."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from hw.array.bitvert_array import BitvertArray
from hw.errors import ConfigError
from hw.formats import format_named
from hw.pe.stripes import StripesPE
from sw.formats.columns import encode_groups
from sw.golden.pe.bitvert import group_weights
from tb.sim import simulate

Group = tuple[np.ndarray, np.ndarray, np.ndarray]      # bits (C, 16, columns), redundant (C,), constant (C,)


def run_groups(groups: list[tuple[Group, np.ndarray, bool]], columns: int, *, gap: bool = False) -> list[list[int]]:
    """Run passes of 16 weights, one after the other, through one row of PEs; return the sums of each.

    groups: of each pass the groups of all channels, activations (16,), and whether the constant is subtracted.
    gap: let a cycle go by now and then.
    """
    dut = BitvertArray(rows=1, columns=columns, psum_width=24)
    found, cycles = [], []
    rng = np.random.default_rng(1)

    async def drive(ctx: Any) -> None:
        for (bits, redundant, constant), activations, subtract in groups:
            stored = bits.shape[-1]
            for index in range(stored):
                while gap and rng.random() < 0.4:
                    ctx.set(dut.valid, 0)
                    await ctx.tick()
                ctx.set(dut.valid, 1)
                ctx.set(dut.step, {"first": index == 0, "second": index == 1, "fresh": index == 0, "last": index == stored - 1,
                                   "subtract": subtract, "rows": 1})
                for c in range(columns):
                    ctx.set(dut.bits[c], int((bits[c, :, index].astype(np.int64) << np.arange(16)).sum()))
                    ctx.set(dut.meta[c], {"redundant": int(redundant[c]), "constant": int(constant[c])})
                ctx.set(dut.activations[0], activations.tolist() if index == 0 else rng.integers(-128, 128, 16).tolist())
                await ctx.tick()
                if index == stored - 1:
                    cycles.append(stored)
        ctx.set(dut.valid, 0)
        await ctx.tick().repeat(dut.latency + 1)
        assert not ctx.get(dut.busy)

    async def record(ctx: Any) -> None:
        async for _, _, valid, sums in ctx.tick().sample(dut.o_valid, dut.o):
            if valid:
                found.append([sums[c] for c in range(columns)])

    simulate(dut, drive, background=[record])
    assert len(found) == len(groups)
    return found


@pytest.mark.parametrize("subtract", [False, True])
def test_every_redundant_dropped_and_constant(subtract):
    """Sums are Σ activation · decoded weight, of random weights, for all that a group's metadata can say."""
    rng = np.random.default_rng(11)
    columns, groups, expected = 16, [], []
    for redundant in range(4):
        for dropped in range(7 - redundant):
            for constants in np.arange(64).reshape(-1, columns):
                bits = rng.integers(0, 2, (columns, 16, 8 - redundant - dropped))
                activations = rng.integers(-128, 128, 16)
                groups.append(((bits, np.full(columns, redundant), constants), activations, subtract))
                weights = group_weights(bits.astype(np.uint8), np.full((columns, 16), redundant),
                                        np.repeat(constants[:, None], 16, axis=1), subtract=subtract)
                expected.append((weights @ activations).tolist())
    assert len(groups) == 22 * 4
    assert run_groups(groups, columns, gap=subtract) == expected


@pytest.mark.parametrize("activation", [-128, 127])
@pytest.mark.parametrize("bit", [0, 1])
def test_extremes(activation, bit):
    """All columns the same, all activations as large as they get: nothing overflows, at every place value."""
    groups, expected = [], []
    for redundant in range(4):
        for sign in (0, 1):
            bits = np.full((1, 16, 8 - redundant), bit)
            bits[..., 0] = sign
            groups.append(((bits, np.array([redundant]), np.array([32])), np.full(16, activation), True))
            weights = group_weights(bits.astype(np.uint8), np.full((1, 16), redundant), np.full((1, 16), 32), subtract=True)
            expected.append((weights @ np.full(16, activation)).tolist())
    assert run_groups(groups, 1) == expected
    assert max(abs(row[0]) for row in expected) >= (95 if bit == 0 else 158) * 16 * 127


_W = [67, -34, 5, -57, 12, -8, 33, -21]


@pytest.mark.parametrize(("weights", "name", "redundant", "constant", "expected"), [
    (_W, "average-2", 0, 2, [66, -34, 6, -58, 14, -6, 34, -22]),
    (_W, "average-4", 0, 8, [72, -40, 8, -56, 8, -8, 40, -24]),
    # The published vector has -25 in the last place: -28 is as far from -24 as from -32, and the rule takes -24.
    (_W, "shift-4", 1, -7 & 63, [63, -33, 7, -57, 15, -9, 31, -17]),
    ([3, -2, 7, 1, -5, 6, -8, 0], "average-4", 3, 0, [2, -2, 6, 0, -6, 6, -8, 0]),
])
def test_vectors(weights, name, redundant, constant, expected):
    """Groups of eight as `sw.formats` encodes them, times one-hot activations: the PE computes with exactly these weights."""
    method, pruned = name.split("-")
    fmt = dataclasses.replace(format_named(f"bbs-{method}-g8"), pruned=int(pruned))
    fields = encode_groups(fmt, np.array(weights, np.int8).reshape(1, 1, 8))
    assert (fields["redundant"].item(), fields["constant"].item()) == (redundant, constant)
    planes = np.unpackbits(fields["columns"].astype(np.uint8).reshape(-1, 1), axis=1, bitorder="little")       # (columns, 8)
    bits = np.zeros((1, 16, len(planes)), np.int64)
    bits[0, :8] = planes.T
    group = (bits, np.array([redundant]), np.array([constant]))
    hot = [(group, np.eye(16, dtype=np.int64)[index], method == "shift") for index in range(8)]
    assert [row[0] for row in run_groups(hot, 1)] == expected


def test_constants_are_in_twos_complement():
    bits = np.zeros((1, 1, 4), np.uint8)
    found = [group_weights(bits, np.array([[3]]), np.array([[c]]), subtract=False).item() for c in (0, 31, 32, 63)]
    assert found == [0, 31, -32, -1]


def test_minus_57_without_its_redundant_column():
    bits = np.array([int(digit) for digit in "1000111"])[None, :]
    assert group_weights(bits, np.array([1]), np.array([0]), subtract=False).tolist() == [-57]


@pytest.mark.parametrize(("rows", "columns", "text"), [
    (0, 1, "BitvertArray.rows must be between 1 and 256, not 0"),
    (1, 257, "BitvertArray.columns must be between 1 and 256, not 257")])
def test_refusals(rows, columns, text):
    with pytest.raises(ConfigError, match=f"^{text}$"):
        BitvertArray(rows=rows, columns=columns, psum_width=24)


@pytest.mark.parametrize("lanes", [8, 16])
def test_stripes(lanes):
    """Two passes of eight columns each are added up exactly; then a fresh sum."""
    rng = np.random.default_rng(5)
    dut = StripesPE(lanes=lanes, psum_width=24)
    results, expected = [], []

    async def drive(ctx: Any) -> None:
        for trial in range(6):
            weights = rng.integers(-128, 128, (2, lanes)) if trial else np.full((2, lanes), -128)
            activations = rng.integers(-128, 128, (2, lanes)) if trial else np.full((2, lanes), -128)
            for index in range(16 + 2):
                column, passed = index % 8, index // 8
                ctx.set(dut.control, {"valid": index < 16, "sign": column == 0, "first": column == 0, "double": 1,
                                      "add": index in (8, 16), "fresh": index == 8, "take": index == 17})
                if index < 16:
                    bits = (weights[passed] & 0xFF) >> (7 - column) & 1
                    ctx.set(dut.column, int((bits << np.arange(lanes)).sum()))
                    ctx.set(dut.activations, activations[passed].tolist())
                await ctx.tick()
            results.append(ctx.get(dut.result))
            expected.append(int((weights * activations).sum()))

    simulate(dut, drive)
    assert results == expected
