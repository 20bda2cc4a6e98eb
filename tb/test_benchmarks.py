"""Benchmarks on small tensors: every row is measured, and the alternatives do the work; a decoder layer's goals, predicted."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks import checkpoint, decoder, fault_injection, formats, hss, packing, pim, pim_attention, tracing
from benchmarks.obvious import obvious
from flows.fault.targets.workloads import array_target
from hw.families import Format, HuffmanFormat
from hw.formats import FORMATS, format_named
from hw.presets import preset_named
from sw.formats.registry import CODECS
from sw.kernels.transformer.decoder import decoder_memory, decoder_program
from sw.perf import MemoryModel, predict


def families(names) -> set[type[Format]]:
    return {type(format_named(name)) for name in names}


def test_every_family_is_measured():
    assert families(formats.NAMES) == families(name for name, _ in checkpoint.CASES) == set(CODECS)
    assert families(packing.NAMES) == set(CODECS) - {HuffmanFormat}      # whose words are bytes


def test_quantizers_and_packing_are_measured():
    table = formats.rows(["int4-g32", "dfloat11"], (2, 1024))
    assert [row["format"] for row in table] == ["int4-g32", "dfloat11"]
    assert all(row["ratio"] == pytest.approx(row["M weights/s"] / row["obvious"]) and row["back, M/s"] > 0 for row in table)
    table = packing.rows(packing.NAMES, (2, 1024))          # raises where the two ways differ
    assert [row["format"] for row in table] == list(packing.NAMES)


@pytest.mark.parametrize("name", ["2:4", "4:8", "tasd-2:4+2:8"])
def test_obvious_sparsity_keeps_the_same_values(name):
    """The alternatives are ones that one could use: they keep as many values as the format."""
    fmt = FORMATS[name]
    matrix = np.random.default_rng(1).standard_normal((4, 256)).astype(np.float32)
    _, found = obvious(fmt, matrix)
    kept = sum(np.count_nonzero(term) for term in (found if isinstance(found, list) else [found]))
    expected = np.count_nonzero(CODECS[type(fmt)].dequantize(fmt, CODECS[type(fmt)].quantize(fmt, matrix)))
    assert abs(kept - expected) <= 4                         # an integer that is kept may be 0


@pytest.mark.parametrize("name", formats.NAMES)
def test_every_format_has_an_obvious_way(name):
    matrix = np.random.default_rng(2).standard_normal((2, 512)).astype(np.float32)
    matrix = (matrix.view(np.uint32) & 0xFFFF_0000).view(np.float32)
    how, found = obvious(format_named(name), matrix)
    assert how
    assert found is not None


def test_memory_of_the_command_is_measured():
    row, = checkpoint.rows([("dfloat11", 0)], (96, 64))
    assert (row["format"], row["axis"]) == ("dfloat11", 0)
    assert row["ratio"] > checkpoint.BOUND                   # the imports alone are more than so small a tensor
    assert row[f"below {checkpoint.BOUND:g}"] == "NO"


@pytest.mark.xdist_group("traced-4x4")
def test_tracing_is_measured_and_changes_no_cycle():
    table = tracing.rows([("systolic-4x4", (8, 8, 8))], 1)
    assert [row["simulator"] for row in table] == ["run", "able to trace", "trace"]
    assert len({row["cycles"] for row in table}) == 1
    assert all(row["slowdown"] == pytest.approx(table[0]["cycles/s"] / row["cycles/s"]) for row in table)


def test_fault_injection_is_measured_on_the_same_faults():
    counts = {"lanes": 400, "lanes, to the first wrong word": 400, "Verilator, snapshots": 100, "Verilator, from reset": 20}
    table = fault_injection.rows([("array", lambda: array_target(8, 8), counts)])       # raises where the engines differ
    assert [(row["engine"], row["faults"]) for row in table] == list(counts.items())
    assert {row["cycles"] for row in table} == {112}
    reset = table[-1]["faults/s"]
    assert [row["× Verilator, from reset"] for row in table] == [pytest.approx(row["faults/s"] / reset) for row in table]
    assert {row["× cocotb"] for row in table} == {""}


def test_a_decoder_layer_is_predicted_to_reach_its_goals():
    """What `make bench` measures on the RTL; the products of attention are left out of the useful ones here."""
    config, model, chunk = preset_named(decoder.PRESET), decoder.LAYER, decoder.CHUNK
    memory = decoder_memory(config, model, tokens=chunk)
    fill, step = (decoder_program(config, memory, tokens=tokens, code_addr=memory.end, head="none") for tokens in (chunk, 1))
    cycles = sum(predict(config, fill, {"position": position, "count": chunk}, MemoryModel()).cycles
                 for position in range(0, decoder.PROMPT_TOKENS, chunk))
    macs = decoder.PROMPT_TOKENS * model.hidden * (4 * model.hidden + 3 * model.ffn)
    assert macs / cycles / config.peak_macs_per_cycle >= decoder.GOALS["prefill"]
    token = predict(config, step, {"position": decoder.PROMPT_TOKENS}, MemoryModel())
    assert token.cycles <= decoder.GOALS["decode"] * max(memory.runs[0].layer_bytes / config.beat_bytes, token.busy["matrix"])


def test_memory_traffic_and_delay_of_sparse_modes():
    """Where steps end with lines, a line is written and read once; energy-delay falls with density, and dense modes are equal."""
    config = preset_named("hss-16x64")
    mode = 1 + config.weight_formats.index("hss-4:8-2:4")
    assert hss.memory_bits(config, 100, 64, 640, mode) == 10 * (2 * 100 * 512 + 24 * 64 * 8 + 2 * 100 * 64 * 32)
    by_mode = {row["mode"]: row for row in hss.energies()}
    assert by_mode["hss-4:4-2:2"]["energy-delay over dense"] == by_mode["int8"]["energy-delay over dense"] == 1
    assert {row["speedup"] for row in by_mode.values()} >= {outer * inner / 8 for outer in range(4, 9) for inner in range(2, 5)}
    series = [by_mode.pop(name) for name in list(by_mode) if name.startswith("tasd")]
    assert {row["speedup"] for row in series} == {1, 2, 4 / 3}
    ranked = sorted(by_mode.values(), key=lambda row: row["speedup"])
    assert all(one["energy-delay over dense"] >= other["energy-delay over dense"] for one, other in pairwise(ranked))


def test_products_of_a_pim_are_held_to_their_law():
    table = pim.rows("pim-tiny", k=256, outputs=64, held=(256, 64), tokens=40, head_dim=32)
    assert table[0]["ratio"] == 1
    assert len(table) == 5
    assert all(row["active"] > 0 for row in table)


def test_attention_on_a_pim_is_held_to_its_law():
    (row,) = pim_attention.rows((("pim-tiny", 40, 2),), head_dim=32)
    assert row["active"] == 2 * 2 * 40 * 2
    assert 1 < row["ratio"] < 5
    assert row["predicted"] == pytest.approx(row["list"], rel=0.05)
