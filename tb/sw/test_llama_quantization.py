"""Plans of what is quantized, and what they cost in bits of a token."""

import math

import numpy as np
import pytest

import sw.evaluate
from hw.errors import ConfigError
from hw.formats import format_named
from sw.checkpoint import CheckpointError
from sw.evaluate import EvaluationError, TextError, evaluate, steps_of, windows_of
from sw.formats import FormatError, dequantize, quantize
from sw.golden.llama import KVCache, forward
from sw.models.llama import LlamaModel
from sw.models.llama_quantization import QuantizationPlan, WeightQuantizer, rounded
from tb.sw.llamas import FIELDS, plain_logits, random_tensors, write_llama

ROWS = np.random.default_rng(3).standard_normal((2, 3, 40)).astype(np.float32) * np.array([[[1], [50], [0]]], np.float32)
TEXT = list(np.random.default_rng(4).integers(0, 256, 61))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return LlamaModel(write_llama(tmp_path_factory.mktemp("llama") / "m"))


@pytest.mark.parametrize("name", [
    "int8", "int4-g32", "int4-asym-g128", "mxint4-b32", "mxfp4-b32", "bitmod4-g128", "nf4-g128", "p3-act", "p3-kv-g128",
    "float8_e4m3fn", "float16", "2:4", "tasd-2:4", "hss-4:8-2:4", "sdq-7:8-1:8int8-6:8fp4-g64", "sherry", "bbs-average-g32"])
def test_every_row_is_quantized_by_itself(name):
    fmt = format_named(name)
    found = rounded(ROWS, fmt)
    assert found.shape == ROWS.shape
    assert found.dtype == np.float32
    for index in np.ndindex(ROWS.shape[:-1]):
        np.testing.assert_array_equal(found[index], dequantize(quantize(ROWS[index][None], fmt))[0])


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-4over6", "razer", "razer-act"])
def test_a_format_with_a_scale_for_the_tensor_gets_one_for_each_row(name):
    fmt = format_named(name)
    found = rounded(ROWS, fmt)
    np.testing.assert_array_equal(found[1, 1], rounded(ROWS[1, 1][None], fmt)[0])       # whatever lies beside it
    np.testing.assert_array_equal(found[:, 2], 0)
    for index in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, alone = ROWS[index], dequantize(quantize(ROWS[index][None], fmt))[0]
        error, expected = (float(np.square(row - other).sum()) for other in (found[index], alone))
        assert error < 1.1 * expected
        assert error < 0.02 * float(np.square(row).sum())
        np.testing.assert_allclose(found[index], alone, rtol=1e-5)
    with pytest.raises(FormatError, match=r"^values must be finite, not nan \(row 1\)$"):
        rounded(np.array([[1, 2], [np.nan, 1]], np.float32), fmt)


@pytest.mark.parametrize("place", ["activations", "queries", "keys", "values", "probabilities"])
@pytest.mark.parametrize("name", ["dfloat11", "kvquant4-g128"])
def test_what_is_fitted_to_a_tensor_cannot_come_token_by_token(place, name):
    with pytest.raises(ConfigError, match=rf"^QuantizationPlan\.{place} must be a format that quantizes a token by itself, "
                                          rf"not '{name}', which is fitted to a whole tensor$"):
        QuantizationPlan(**{place: format_named(name)})


def test_a_format_without_negative_values_is_for_probabilities():
    assert QuantizationPlan.named(probabilities="s0e4m4").probabilities == format_named("float8_s0e4m4")
    with pytest.raises(ConfigError, match=r"^QuantizationPlan\.keys must be a format with negative values, not 'float8_s0e4m4'$"):
        QuantizationPlan.named(kv="s0e4m4")
    with pytest.raises(ConfigError, match=r"^format must be a name that `heddle formats` lists"):
        QuantizationPlan.named(weights="int4-h32")


def test_names_go_where_they_belong():
    plan = QuantizationPlan.named(weights="int4-g32", activations="int8", kv="int4-asym-g32", queries="int6", head="int7")
    assert [getattr(getattr(plan, name), "name", None) for name in QuantizationPlan.__slots__] == [
        "int4-g32", "int4-g32", "int7", "int8", "int6", "int4-asym-g32", "int4-asym-g32", None, None]
    mixed = QuantizationPlan(attention=format_named("int8"), mlp=format_named("int4"))
    assert [mixed.format_of(part).name for part in ("q", "k", "v", "o", "gate", "up", "down")] == ["int8"] * 4 + ["int4"] * 3
    assert mixed.format_of("head") is None
    assert mixed.quantizes_weights
    assert not QuantizationPlan.named(activations="int8", kv="int8").quantizes_weights


def test_weights_are_counted_as_they_are_stored():
    plan = QuantizationPlan(attention=format_named("int8"), head=format_named("int4-g32"))
    quantizer, matrix = WeightQuantizer(plan, 16), np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
    np.testing.assert_array_equal(quantizer("q", matrix), dequantize(quantize(matrix, "int8")))
    assert quantizer.bits_per_weight == 8 + 32 / 40
    np.testing.assert_array_equal(quantizer("up", matrix), matrix)
    assert quantizer.bits_per_weight == (8 + 32 / 40 + 16) / 2
    quantizer("head", matrix)
    assert quantizer.bits_per_weight == pytest.approx((8 + 32 / 40 + 16 + 2 * 18 * 8 / 40) / 3)
    unquantized = WeightQuantizer(QuantizationPlan(), 16)
    unquantized("q", matrix)
    unquantized("head", matrix)
    assert (unquantized.weights, unquantized.bits) == (240, 240 * 16)


def test_windows_overlap_by_half_and_count_every_token_once():
    windows = windows_of(range(30), 8)
    assert windows.tokens[:, 0].tolist() == [0, 4, 8, 12, 16, 20]
    predicted = [row[1 + first:].tolist() for row, first in zip(windows.tokens, windows.first, strict=True)]
    assert [token for part in predicted for token in part] == list(range(1, 29))
    assert windows.counted == 28
    assert windows_of(range(29), 8).tokens[-1, -1] == 28        # all but none
    assert windows_of(range(9), 8).counted == 8


def test_fewer_windows_are_spread_over_the_text():
    windows = windows_of(range(1000), 8, 3)
    assert windows.tokens[:, 0].tolist() == [0, 328, 660]
    assert windows.first.tolist() == [0, 4, 4]
    assert len(windows_of(range(30), 8, 100).tokens) == 6
    with pytest.raises(TextError, match=r"^the text must have at least 9 tokens, a window of 8 and the one after it, not 8$"):
        windows_of(range(8), 8)


def reference_bits(tensors, windows):
    """Return bits of a token, from the plain model in float64."""
    bits = []
    for row, first in zip(windows.tokens, windows.first, strict=True):
        scores = plain_logits(FIELDS, tensors, row[:-1])
        for position in range(first, len(scores)):
            total = math.log2(sum(math.exp(score) for score in scores[position]))
            bits.append(total - scores[position][row[position + 1]] / math.log(2))
    return sum(bits) / len(bits)


def test_bits_of_a_token_are_those_of_the_plain_model(model):
    windows = windows_of(TEXT, 16)
    found = evaluate(model.checkpoint, QuantizationPlan(), windows)
    assert found.bits == pytest.approx(reference_bits(random_tensors(FIELDS), windows), abs=1e-5)
    assert (found.tokens, found.bits_per_weight) == (windows.counted, 32)
    assert found.perplexity == 2 ** found.bits
    assert found.seconds > 0


@pytest.mark.parametrize("limit", ["_SCORES", "_LOGITS"])
def test_bits_do_not_depend_on_how_the_work_is_cut(monkeypatch, model, limit):
    windows, plan, seen = windows_of(TEXT, 16), QuantizationPlan.named(weights="int8", activations="int8"), []
    whole = evaluate(model.checkpoint, plan, windows)
    assert steps_of(model.config, windows) == 3
    monkeypatch.setattr(sw.evaluate, limit, 3 * 256 * 6 if limit == "_SCORES" else 256 * 3)
    assert steps_of(model.config, windows) == (6 if limit == "_SCORES" else 3)
    cut = evaluate(model.checkpoint, plan, windows, lambda: seen.append(1))
    assert len(seen) == steps_of(model.config, windows)
    assert cut.bits == pytest.approx(whole.bits, abs=1e-5)


PLAN = QuantizationPlan(attention=format_named("int4-g32"), mlp=format_named("mxfp4-b32"), head=format_named("int8"),
                        activations=format_named("int8"), queries=format_named("int6"), keys=format_named("int4-asym-g32"),
                        values=format_named("int5"), probabilities=format_named("int8"))


def test_a_plan_is_carried_out_on_weights_and_activations(model):
    windows = windows_of(TEXT, 16, 2)
    tensors = {name: tensor if tensor.ndim == 1 or "embed" in name else dequantize(quantize(
        tensor, "int8" if name == "lm_head.weight" else "int4-g32" if "self_attn" in name else "mxfp4-b32"))
        for name, tensor in random_tensors(FIELDS).items()}
    formats = {"inputs": "int8", "queries": "int6", "keys": "int4-asym-g32", "values": "int5", "probabilities": "int8",
               "head": "int8"}
    rounding = PLAN.rounding()
    for place, name in formats.items():
        np.testing.assert_array_equal(getattr(rounding, place)(ROWS), rounded(ROWS, format_named(name)))
    weights = model.checkpoint.weights(WeightQuantizer(PLAN, 32))
    np.testing.assert_array_equal(weights.layers[1].down, tensors["model.layers.1.mlp.down_proj.weight"])
    np.testing.assert_array_equal(weights.layers[0].o, tensors["model.layers.0.self_attn.o_proj.weight"])
    np.testing.assert_array_equal(weights.head, tensors["lm_head.weight"])
    np.testing.assert_array_equal(weights.embedding, tensors["model.embed_tokens.weight"])
    scores = forward(model.config, weights, KVCache.empty(model.config, 2), windows.tokens[:, :-1], rounding).astype(np.float64)
    chosen = np.take_along_axis(scores, windows.tokens[:, 1:, None], 2)[..., 0]
    surprise = np.log2(np.exp(scores).sum(axis=-1)) - chosen / np.log(2)
    expected = np.concatenate([row[first:] for row, first in zip(surprise, windows.first, strict=True)]).mean()
    found = evaluate(model.checkpoint, PLAN, windows)
    assert found.bits == pytest.approx(expected, abs=1e-5)
    assert found.bits != pytest.approx(evaluate(model.checkpoint, QuantizationPlan(), windows).bits, abs=1e-3)


def test_matrices_can_have_formats_of_their_own(model):
    plan = QuantizationPlan(mlp=format_named("int4"), matrices={(1, "q"): format_named("int3"), (0, "up"): format_named("2:4")})
    weights = model.checkpoint.weights(WeightQuantizer(plan, 32))
    for layer in (1, 0):                                    # in any order
        for part, name in (("q", "self_attn.q_proj"), ("up", "mlp.up_proj"), ("down", "mlp.down_proj")):
            stored = random_tensors(FIELDS)[f"model.layers.{layer}.{name}.weight"]
            fmt = {(1, "q"): "int3", (0, "up"): "2:4"}.get((layer, part), None if part == "q" else "int4")
            got = getattr(weights.layers[layer], part)
            np.testing.assert_array_equal(got, stored if fmt is None else dequantize(quantize(stored, fmt)))
    assert plan.quantizes_weights
    assert QuantizationPlan(matrices=plan.matrices).quantizes_weights
    assert plan.format_of("up").name == "int4"


def test_the_input_of_the_head_is_quantized_with_the_head_only():
    assert QuantizationPlan.named(activations="int4").rounding().head(ROWS) is ROWS
    np.testing.assert_array_equal(QuantizationPlan.named(activations="int4", head="int8").rounding().head(ROWS),
                                  rounded(ROWS, format_named("int4")))


def test_what_does_not_fit_is_told_with_its_place(tmp_path, model):
    tensors = random_tensors(FIELDS)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = 1e9
    large = LlamaModel(write_llama(tmp_path / "m", tensors))
    windows = windows_of(TEXT, 16, 1)
    with pytest.raises(CheckpointError, match=r"^model\.layers\.1\.mlp\.up_proj\.weight: the scale of row 3, group 0 must fit "
                                              r"float16"):
        evaluate(large.checkpoint, QuantizationPlan.named(weights="int4-g32"), windows)
    with pytest.raises(FormatError, match=r"^inputs do not fit int4-g32: the scale of row \d+, group \d must fit float16"):
        evaluate(large.checkpoint, QuantizationPlan.named(activations="int4-g32"), windows)


def test_a_model_that_overflows_is_no_figure(tmp_path):
    tensors = random_tensors(FIELDS)
    tensors["model.layers.0.mlp.up_proj.weight"] *= np.float32(1e30)
    tensors["model.layers.0.mlp.down_proj.weight"] *= np.float32(1e30)
    large = LlamaModel(write_llama(tmp_path / "m", tensors))
    large.checkpoint.check_values()
    with pytest.raises(EvaluationError, match=r"^the model must compute with finite numbers, but those of window 0 are not$"):
        evaluate(large.checkpoint, QuantizationPlan(), windows_of(TEXT, 16, 1))
