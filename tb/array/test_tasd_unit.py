# amaranth: UnusedElaboratable=no
"""The TASD unit: records and cycles against the golden model, that against the decomposition of weights; ties; back-pressure."""

from typing import Any

import numpy as np
import pytest

from hw.array.tasd_unit import TasdUnit
from hw.errors import ConfigError
from sw.formats.groups import largest
from sw.golden.array.tasd import block_cycles, block_terms
from tb.sim import check_stream, put_all, simulate

SERIES = {"1:8": ((1, 8),), "2:8+1:8": ((2, 8), (1, 8)), "4:8+2:8": ((4, 8), (2, 8)), "2:4": ((2, 4),),
          "2:4+1:8": ((2, 4), (1, 8)), "8:8": ((8, 8),)}


def blocks_of(rng: np.random.Generator) -> np.ndarray:
    """Return int8 blocks: dense, thin, with many ties, zeros, ±128."""
    found = [rng.integers(-128, 128, (20, 8)), rng.integers(-128, 128, (20, 8)) * (rng.random((20, 8)) < 0.4),
             rng.integers(-2, 3, (20, 8)), np.zeros((2, 8)), np.full((1, 8), -128), [[127, -127, -128, 0, 0, 0, 0, 1]]]
    return rng.permutation(np.concatenate(found).astype(np.int8))


def slots_of(record: list[list[list[tuple[int, int]]]], terms: tuple[tuple[int, int], ...]) -> list[tuple[int, int, int]]:
    """Return (filled, place, value) of every slot."""
    slots = []
    for (keep, _), groups in zip(terms, record, strict=True):
        for group in groups:
            slots += [(1, place, value) for place, value in group] + [(0, 0, 0)] * (keep - len(group))
    return slots


@pytest.mark.parametrize(("name", "stall"), [*((name, 0.0) for name in SERIES), ("2:8+1:8", 0.5), ("2:4+1:8", 0.3)])
def test_records_and_cycles(name: str, stall: float) -> None:
    """Every record; without back-pressure a block comes each Σ N cycles, or as many as it has values to extract."""
    terms = SERIES[name]
    rng = np.random.default_rng(1)
    blocks = blocks_of(rng)
    dut = TasdUnit(block=8, terms=terms)
    found: list[list[tuple[int, int, int]]] = []
    taken: list[int] = []
    given: list[int] = []

    async def collect(ctx: Any) -> None:
        cycle = 0
        while len(found) < len(blocks):
            ctx.set(dut.o.ready, rng.random() >= stall)
            *_, i_valid, i_ready, valid, ready, record = await ctx.tick().sample(
                dut.i.valid, dut.i.ready, dut.o.valid, dut.o.ready, dut.o.p)
            if i_valid and i_ready:
                taken.append(cycle)
            if valid and ready:
                given.append(cycle)
                found.append([(record.filled >> slot & 1, record.places[slot], record.values[slot])
                              for slot in range(len(record.values))])
            cycle += 1

    simulate(dut, collect, put_all(dut.i, blocks.tolist()), background=[check_stream(dut.o)])
    assert found == [slots_of(block_terms(block, terms), terms) for block in blocks]
    if not stall:
        cycles = [block_cycles(block, terms) for block in blocks]
        assert np.diff(taken).tolist() == cycles[:-1]
        assert (np.array(given) - taken).tolist() == [count + 1 for count in cycles]
        assert max(cycles) == sum(keep * 8 // of for keep, of in terms)
        assert min(cycles) == 1


@pytest.mark.parametrize("name", SERIES)
def test_terms_are_those_of_the_decomposition(name: str) -> None:
    """Term by term the N largest of the residual, of equals the first; the sum of terms and of what is dropped is the block."""
    terms = SERIES[name]
    for block in blocks_of(np.random.default_rng(2)):
        residual = block.astype(np.int64)
        for (keep, of), groups in zip(terms, block_terms(block, terms), strict=True):
            mask = largest(np.abs(residual).reshape(-1, of), keep).reshape(-1)
            term = np.zeros(8, np.int64)
            for place, value in (pair for group in groups for pair in group):
                term[place] = value
            assert (term == np.where(mask, residual, 0)).all()
            residual = residual - term
        if np.count_nonzero(block) <= sum(keep for keep, of in terms if of == 8):
            assert not residual.any()


@pytest.mark.parametrize("terms", [(), ((0, 8),), ((3, 2),), ((1, 3),)])
def test_refusals(terms: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ConfigError, match=r"^TasdUnit\.terms must be N:M with N from 1 to M and M dividing the block of 8, not "):
        TasdUnit(block=8, terms=terms)
