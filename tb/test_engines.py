"""Cycle formulas that no mesh asserts: BitMoD's own, and its authors' model against the figures that they publish."""

import pytest

from hw.engines.bitmod import BITMOD_TERMS, bitmod_cycles, bitmod_paper_layer

LLAMA_2_7B = [(4096, 4096, 4 * 32), (11008, 4096, 2 * 32), (4096, 11008, 32), (32000, 4096, 1)]
"""(outputs, inputs, how many) of the linear layers."""


@pytest.mark.parametrize(("bits", "cycles"), [(6.0625, 1_351_884_800), (4.0625, 905_125_888)])
def test_authors_prefill_of_llama_2(bits, cycles):
    """Linear layers at 256 tokens, 32 output channels × 32 tokens: what is left of the published totals without attention."""
    assert sum(count * bitmod_paper_layer(32, 32, 256, n, k, bits) for n, k, count in LLAMA_2_7B) == cycles


@pytest.mark.parametrize(("published", "linear"), [(1_649_680_384, 1_351_884_800), (1_202_921_472, 905_125_888)])
def test_the_rest_of_the_published_totals_is_attention(published, linear):
    """The same for both, as it must be: attention runs at one precision."""
    assert published - linear == 297_795_584


def test_layers_that_memory_bounds():
    """Two of the three shapes compute longer than they move; the down projection, whose operands are fetched again, does not."""
    assert bitmod_paper_layer(32, 32, 256, 4096, 4096, 6.0625) == 1024 * 128 * 8 * 3
    assert bitmod_paper_layer(32, 32, 256, 4096, 11008, 6.0625) > 2752 * 128 * 8 * 3
    assert bitmod_paper_layer(64, 16, 1, 4096, 4096, 3.0625) == (4096 * 4096 * 3.0625 / 8 + 2 * 8192) * 8 // 256


@pytest.mark.parametrize("precision", BITMOD_TERMS)
def test_formulas_agree_where_memory_does_not_bound(precision):
    """Whole groups: without a pipeline to fill, cycle for cycle the same."""
    bits = {"int8": 8.0, "int6": 6.0, "int5": 5.0, "int4": 4.0, "int3": 3.0, "fp4": 4.0, "fp3": 3.0}[precision]
    ours = bitmod_cycles(32, 32, 256, 4096, 4096, precision, 128)
    assert ours == bitmod_paper_layer(32, 32, 256, 4096, 4096, bits) == 1024 * 128 * 8 * BITMOD_TERMS[precision]


@pytest.mark.parametrize(("k", "group", "cycles"), [
    (128, 128, 128), (130, 128, 128 + 16), (260, 128, 256 + 16), (148, 128, 148), (20, 10, 2 * 16), (25, 10, 3 * 16),
    (96, 30, 3 * 4 * 8 + 16)])
def test_groups_are_of_whole_steps_and_long_enough(k, group, cycles):
    assert bitmod_cycles(8, 8, 8, 8, k, "int8", group) == cycles


@pytest.mark.parametrize(("bits", "precision", "cycles", "difference"), [
    (6.0625, "int6", 1_238_827_008, 113_057_792), (4.0625, "fp4", 825_884_672, 79_241_216)])
def test_difference_from_the_authors_is_the_down_projection(bits, precision, cycles, difference):
    """What docs/bitmod.md says of it."""
    ours = [count * bitmod_cycles(32, 32, 256, n, k, precision, 128) for n, k, count in LLAMA_2_7B]
    theirs = [count * bitmod_paper_layer(32, 32, 256, n, k, bits) for n, k, count in LLAMA_2_7B]
    assert sum(ours) == cycles
    assert [b - a for a, b in zip(ours, theirs, strict=True)] == [0, 0, difference, 0]
