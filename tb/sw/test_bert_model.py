"""Folders of BERT models: what is read, and what is refused by name before anything is computed."""

import json
import re

import numpy as np
import pytest

from sw.checkpoint import CheckpointError
from sw.models.bert import BertConfig, encode_float
from sw.models.bert_config import read_bert_config
from sw.models.bert_smoothing import smoothing
from sw.models.bert_weights import BertCheckpoint
from sw.models.config_file import ModelError
from sw.models.sentence_model import SentenceModel, TextError
from tb.sw.berts import FIELDS, MODULES, POOLING, plain_embedding, random_tensors, write_bert

Q = "encoder.layer.1.attention.self.query.weight"


def test_the_config_is_read(tmp_path):
    config = read_bert_config(write_bert(tmp_path / "m"))
    assert config == BertConfig(vocab=41, hidden=36, ffn=52, layers=2, heads=3, context=70, types=2, norm_eps=1e-3)
    assert (config.head_dim, config.kv_heads) == (12, 3)


def test_absent_fields_have_the_defaults_of_hugging_face(tmp_path):
    config = read_bert_config(write_bert(tmp_path / "m", modules=None, max_position_embeddings=None, type_vocab_size=None,
                                         layer_norm_eps=None, position_embedding_type=None, hidden_act=None))
    assert (config.context, config.types, config.norm_eps) == (512, 2, 1e-12)


@pytest.mark.parametrize(("changes", "said"), [
    ({"architectures": ["BertForMaskedLM"]}, r"architectures must be \['BertModel'\], not \['BertForMaskedLM'\]"),
    ({"architectures": None}, r"must have architectures"),
    ({"hidden_act": "gelu_new"}, r"hidden_act must be 'gelu', with the error function, not 'gelu_new'"),
    ({"hidden_act": "relu"}, r"hidden_act must be 'gelu', with the error function, not 'relu'"),
    ({"position_embedding_type": "relative_key"}, r"position_embedding_type must be 'absolute', not 'relative_key'"),
    ({"is_decoder": True}, r"is_decoder must be false, not True"),
    ({"add_cross_attention": True}, r"add_cross_attention must be false, not True"),
    ({"quantization_config": {"bits": 4}}, r"quantization_config must be absent: weights as floats, .*, not \{'bits': 4\}"),
    ({"hidden_size": 37}, r"hidden_size must be a multiple of num_attention_heads of 3, not 37"),
    ({"num_hidden_layers": 0}, r"num_hidden_layers must be a positive integer, not 0"),
    ({"vocab_size": None}, r"must have vocab_size"),
    ({"layer_norm_eps": "1e-5"}, r"layer_norm_eps must be a positive number, not '1e-5'"),
    ({"max_position_embeddings": 1.5}, r"max_position_embeddings must be a positive integer, not 1.5"),
])
def test_configs_that_are_not_computed(tmp_path, changes, said):
    folder = write_bert(tmp_path / "m")
    fields = {**FIELDS, **changes}
    (folder / "config.json").write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))
    with pytest.raises(ModelError, match=rf"^{re.escape(str(folder))}/config\.json:? {said}$"):
        read_bert_config(folder)


def modules(*kinds):
    return [{"type": f"sentence_transformers.models.{kind}", "path": "1_Pooling" * (kind == "Pooling")} for kind in kinds]


@pytest.mark.parametrize(("given", "pooling", "said"), [
    (modules("Transformer", "Pooling", "Dense"), POOLING,
     "modules.json: modules must be Transformer, Pooling, Normalize, not Transformer, Pooling, Dense"),
    (modules("Transformer"), POOLING, "modules.json: modules must be Transformer, Pooling, Normalize, not Transformer"),
    ({"a": 1}, POOLING, "modules.json must be a list of modules with type and path, not {'a': 1}"),
    (MODULES, {**POOLING, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
     "1_Pooling/config.json: pooling_mode_mean_tokens must be the only mode that is true, not pooling_mode_cls_token"),
    (MODULES, {}, "1_Pooling/config.json: pooling_mode_mean_tokens must be the only mode that is true, not none"),
    (MODULES, [], "1_Pooling/config.json must be a JSON object, not []"),
])
def test_pooling_that_is_not_computed(tmp_path, given, pooling, said):
    folder = write_bert(tmp_path / "m", modules=given, pooling=pooling)
    with pytest.raises(ModelError) as error:
        read_bert_config(folder)
    assert str(error.value) == f"{folder}/{said}"


def test_pooling_that_is_not_there(tmp_path):
    folder = write_bert(tmp_path / "m")
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ModelError) as error:
        read_bert_config(folder)
    assert str(error.value) == f"{folder}/1_Pooling/config.json must be there, as {folder}/modules.json says"
    (folder / "modules.json").write_text("[")
    with pytest.raises(ModelError, match=r"modules\.json must be JSON: "):
        read_bert_config(folder)


def test_the_length_need_not_be_said_to_be_one(tmp_path):
    assert read_bert_config(write_bert(tmp_path / "m", modules=MODULES[:2])).hidden == 36


# Weights ------------------------------------------------------------------------------------------------------


def test_the_float_model_is_the_papers(tmp_path):
    tensors = random_tensors(FIELDS)
    model = SentenceModel(write_bert(tmp_path / "m", tensors))
    for count in (1, 9, 70):
        tokens = np.random.default_rng(count).integers(0, 41, count).tolist()
        found = model.encode_tokens(tokens)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, plain_embedding(FIELDS, tensors, tokens), atol=2e-6)
        np.testing.assert_array_equal(found, encode_float(model.config, model.weights, tokens))


def test_weights_are_checked_first(tmp_path):
    config = read_bert_config(write_bert(tmp_path / "m"))

    def refused(tensors):
        with pytest.raises(CheckpointError) as error:
            BertCheckpoint(write_bert(tmp_path / "m", tensors), config).check_values()
        return str(error.value).replace(str(tmp_path / "m"), "DIR")

    tensors = random_tensors(FIELDS)
    assert refused({name: t for name, t in tensors.items() if name != Q}) == (
        f"DIR must hold {Q} of shape (36, 36), but has no such tensor")
    assert refused({**tensors, Q: tensors[Q][:35]}) == f"{Q} must be of shape (36, 36) by DIR/config.json, not (35, 36)"
    assert refused({**tensors, "bert.x": np.ones(3, np.float32)}) == (
        "DIR must hold tensors of its config.json only, not bert.x of shape (3,)")
    broken = tensors[Q].copy()
    broken[7, 5] = np.inf
    assert refused({**tensors, Q: broken}) == f"weights must be finite float32, not inf: {Q}, row 7, column 5"
    whole = {**tensors, "pooler.dense.weight": np.ones((36, 36), np.float32), "embeddings.position_ids": np.arange(70)[None]}
    checkpoint = BertCheckpoint(write_bert(tmp_path / "m", whole), config)
    checkpoint.check_values()
    assert checkpoint.parameters == sum(tensor.size for tensor in tensors.values())


def test_layers_are_read_when_they_are_asked_for(tmp_path):
    tensors = random_tensors(FIELDS)
    layers = SentenceModel(write_bert(tmp_path / "m", tensors)).weights.layers
    assert len(layers) == 2
    np.testing.assert_array_equal(layers[1].q[0], tensors[Q])
    np.testing.assert_array_equal(layers[-1].down[1], tensors["encoder.layer.1.output.dense.bias"])
    assert [len(layer.up[0]) for layer in layers[:]] == [52, 52]
    with pytest.raises(IndexError):
        layers[2]


# Sentences ----------------------------------------------------------------------------------------------------


def test_sentences(tmp_path):
    model = SentenceModel(write_bert(tmp_path / "m"))
    assert model.sentence("w0 w3 what") == [2, 4, 7, 1, 3]
    assert len(model.sentence("w1 " * 68)) == 70
    with pytest.raises(TextError, match=r"^a text must have at most 70 tokens, the model's positions, not 71 as 'w1 .*'…$"):
        model.sentence("w1 " * 69)
    for text in ("", " \n"):
        with pytest.raises(TextError) as error:
            model.sentence(text)
        assert str(error.value) == f"a text must have at least one token, not none as {text!r}"


# Smoothing ----------------------------------------------------------------------------------------------------


def test_smoothing_divides_outliers_down(tmp_path):
    """A channel whose γ is large has a factor as much larger, but for the weights' part of the exponent."""
    tensors = random_tensors(FIELDS)
    plain = smoothing(read_bert_config(write_bert(tmp_path / "m")), SentenceModel(tmp_path / "m").weights)
    for name, place in (("embeddings.LayerNorm", (0, "attention")), ("encoder.layer.0.attention.output.LayerNorm", (0, "mlp")),
                        ("encoder.layer.0.output.LayerNorm", (1, "attention"))):
        changed = {f"{name}.{part}": tensors[f"{name}.{part}"].copy() for part in ("weight", "bias")}
        for part in changed.values():
            part[5] *= 100
        model = SentenceModel(write_bert(tmp_path / "m", {**tensors, **changed}))
        ratio = getattr(smoothing(model.config, model.weights)[place[0]], place[1]) / getattr(plain[place[0]], place[1])
        assert ratio.argmax() == 5
        assert 0.5 < ratio[5] / 100**0.65 < 2
