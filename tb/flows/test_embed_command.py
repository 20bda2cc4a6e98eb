"""`heddle embed` as a user types it."""

import json

import numpy as np
import pytest

from flows.cli import main
from flows.commands import common
from sw.embed import CompiledEncoder, Embedder
from sw.golden.device import GoldenDevice
from sw.models.minilm import MiniLM
from sw.models.sentence_model import SentenceModel
from tb.sw.berts import FIELDS, plain_embedding, random_tensors, write_bert
from tb.sw.test_encoder import CONFIGS

SMALL = {"hidden_size": 16, "intermediate_size": 20, "num_attention_heads": 2, "num_hidden_layers": 1,
         "max_position_embeddings": 20}
CONFIG = ("systolic-4x4", "--set", "vector=transformer")


@pytest.fixture
def model(tmp_path):
    return write_bert(tmp_path / "model", **SMALL)


def embed(model, *arguments, config=CONFIG):
    return main(["embed", *config, "--model", str(model), *map(str, arguments)])


def answer_of(capsys, model, *arguments, config=CONFIG):
    assert embed(model, *arguments, "--json", config=config) == 0
    return json.loads(capsys.readouterr().out)


def test_vectors_of_texts(capsys, model):
    texts = ("w1 w2 w3", "w5", "w1 w2 w4 w1 w2 w4 w9")
    answer = answer_of(capsys, model, "--text", *texts[:2], "--text", texts[2], "--device", "golden")
    own = SentenceModel(model)
    compiled = CompiledEncoder(CONFIGS["4x4"], own.config, own.weights)
    embedder = Embedder(GoldenDevice(compiled.config).open(len(compiled.dram)), compiled)
    tensors = random_tensors({**FIELDS, **SMALL})
    for text, sentence in zip(texts, answer["sentences"], strict=True):
        tokens = own.sentence(text)
        assert (sentence["text"], sentence["tokens"]) == (text, len(tokens))
        np.testing.assert_allclose(sentence["embedding"], embedder.embed(tokens).vector, atol=1e-6)
        expected = plain_embedding({**FIELDS, **SMALL}, tensors, tokens)
        assert sentence["cosine"] == pytest.approx(np.dot(sentence["embedding"], expected), abs=1e-5)
        assert 0.99 < sentence["cosine"] < 1
        assert sentence["cycles"] is sentence["utilization"] is None
        assert sentence["predicted_cycles"] > 1000
    vectors = np.array([sentence["embedding"] for sentence in answer["sentences"]])
    np.testing.assert_allclose(answer["similarity"], vectors @ vectors.T, atol=1e-6)
    assert answer["match"] is answer["replay"] is None
    assert answer["kernels_by"] == "predicted"
    assert sum(answer["kernels"].values()) == sum(sentence["predicted_cycles"] for sentence in answer["sentences"])
    assert {"embedding norm", "qkv", "append", "queries", "attention", "up", "down", "pool"} <= answer["kernels"].keys()


def test_the_chunk_may_be_chosen(capsys, model):
    found = [answer_of(capsys, model, "--text", "w1 w2 w3 w4", "--device", "golden", "--chunk", chunk) for chunk in (4, 8)]
    assert [answer["chunk"] for answer in found] == [4, 8]
    np.testing.assert_allclose(*(answer["sentences"][0]["embedding"] for answer in found), atol=1e-5)


def test_people_see_texts_likeness_and_where_the_cycles_go(capsys, monkeypatch, model):
    monkeypatch.setattr(common.console, "_width", 80)
    assert embed(model, "--text", "w1 w2", "w1 w3", "[bold]\x1b[31mw1\n" + "w1 " * 12, "--device", "golden") == 0
    out = capsys.readouterr().out
    for said in ("model on systolic-4x4 (golden)", "[bold]\ufffd[31mw1 w1 w1 w1 w1 w…", "cosines between the texts", "1.000",
                 "cycles by kernel, predicted", "attention quantize", "the golden device has no time: cycles are predicted"):
        assert said in out
    assert max(map(len, out.splitlines())) <= 80
    assert embed(model, "--text", "w1", "--device", "golden") == 0
    assert "between" not in capsys.readouterr().out


@pytest.mark.xdist_group("systolic-8x8")
def test_the_rtl_is_exact(capsys, model):
    """A sentence of part of a chunk and one of several chunks, with a memory that holds back."""
    request = ("--text", "w1 w2 w3", "w4 w5 w6 " * 6, "--chunk", "8")
    golden = answer_of(capsys, model, *request, "--device", "golden", config=("systolic-8x8",))
    answer = answer_of(capsys, model, *request, "--stall", "0.2", config=("systolic-8x8",))
    assert answer["match"] is True
    assert answer["kernels_by"] == "sampled"
    assert sum(answer["kernels"].values()) == sum(sentence["cycles"] for sentence in answer["sentences"])
    for sentence, expected in zip(answer["sentences"], golden["sentences"], strict=True):
        assert sentence["embedding"] == expected["embedding"]
        assert 0.8 < sentence["cycles"] / sentence["predicted_cycles"] < 1.4
        assert 0 < sentence["utilization"] < 1


def test_minilm_is_the_default(capsys, monkeypatch):
    """The model of the installed package, up to where it would be compiled."""
    def compiled(config, model, weights, chunk, weight_format):
        assert (model.layers, model.hidden, weights.words.shape) == (6, 384, (30522, 384))
        raise ValueError("seen")

    monkeypatch.setattr("flows.commands.embed.CompiledEncoder", compiled)
    monkeypatch.setattr(MiniLM, "sentence", lambda self, text: [101, len(text), 102])
    assert main(["embed", "systolic-16x16", "--text", "abc"]) == 2
    assert capsys.readouterr().err == "heddle: seen\n"


@pytest.mark.parametrize(("arguments", "said"), [
    (("--text", "w1 " * 19), f"a text must have at most 20 tokens, the model's positions, not 21 as {('w1 ' * 19)[:40]!r}…"),
    (("--text", "w1", ""), "a text must have at least one token, not none as ''"),
    (("--text", "w1", "--chunk", "12"), "tokens must be a power of two, not 12"),
    (("--text", "w1", "--chunk", "1"), "tokens of an encoder's chunk must be at least 2, not 1"),
    (("--text", "w1", "--stall", "2"), "MemoryTiming.stall must be between 0 and 0.95 (a probability), not 2.0"),
    (("--text", "w1", "--set", "vector=requantize"),
     "AcceleratorConfig.vector must be 'transformer' to run a transformer, not 'requantize'"),
    (("--text", "w1", "--set", "weight_format=int4"),
     "AcceleratorConfig.weight_format must be int8 to run a transformer, not 'int4'"),
])
def test_requests_that_cannot_be(capsys, monkeypatch, model, arguments, said):
    monkeypatch.setattr("flows.rtl_device.build_native", None)      # whatever is refused is refused before anything is built
    assert embed(model, *arguments) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"heddle: {said}\n")


def test_a_model_that_does_not_fit(capsys, monkeypatch, model):
    monkeypatch.setattr("flows.rtl_device.build_native", None)
    assert embed(model, "--text", "w1", "--set", "scratchpad_bytes=2048") == 2
    assert "must fit into 2048 scratchpad bytes, not need " in capsys.readouterr().err


def test_weights_that_are_no_numbers(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("flows.rtl_device.build_native", None)
    tensors = random_tensors({**FIELDS, **SMALL})
    tensors["encoder.layer.0.output.dense.weight"][3, 5] = np.nan
    assert embed(write_bert(tmp_path / "model", tensors, **SMALL), "--text", "w1") == 2
    assert capsys.readouterr().err == (
        "heddle: weights must be finite float32, not nan: encoder.layer.0.output.dense.weight, row 3, column 5\n")


def test_a_folder_that_is_no_model(capsys, tmp_path):
    assert embed(tmp_path / "none", "--text", "w1") == 2
    assert capsys.readouterr().err == f"heddle: MODEL must be a folder with config.json, not {str(tmp_path / 'none')!r}\n"
