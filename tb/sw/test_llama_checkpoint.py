"""Folders of Llama models: what is read, and what is refused by name before anything is computed."""

import json
import re

import ml_dtypes
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from flows.cli import main
from sw.checkpoint import CheckpointError
from sw.formats import dequantize, quantize
from sw.golden.llama import LlamaConfig
from sw.models.llama import LlamaModel
from sw.models.llama_config import ModelError, read_config
from sw.models.llama_weights import LlamaCheckpoint
from sw.models.tokenizer import ByteTokenizer, FileTokenizer, TextStream, open_tokenizer
from tb.sw.llamas import FIELDS, random_tensors, write_llama

Q = "model.layers.1.self_attn.q_proj.weight"


def test_the_config_is_read(tmp_path):
    assert read_config(write_llama(tmp_path / "m")) == LlamaConfig(
        vocab=256, hidden=20, ffn=28, layers=2, heads=6, kv_heads=2, head_dim=10, context=16, rope_theta=100.0, norm_eps=1e-3,
        tied=False)


def test_absent_fields_have_the_defaults_of_hugging_face(tmp_path):
    config = read_config(write_llama(tmp_path / "m", {}, hidden_size=24, num_key_value_heads=None, head_dim=None,
                                     max_position_embeddings=None, rope_theta=None, rms_norm_eps=None,
                                     tie_word_embeddings=None, hidden_act=None))
    assert (config.kv_heads, config.head_dim, config.context, config.rope_theta, config.norm_eps, config.tied) == (
        6, 4, 2048, 10000.0, 1e-6, False)


def test_newer_configs_have_theta_among_the_parameters_of_positions(tmp_path):
    folder = write_llama(tmp_path / "m", {}, rope_theta=None, rope_parameters={"rope_theta": 5e5, "rope_type": "default"})
    assert read_config(folder).rope_theta == 5e5


def test_mistral_without_a_window_is_the_same_computation(tmp_path):
    folder = write_llama(tmp_path / "m", architectures=["MistralForCausalLM"])
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, "sliding_window": None}))
    assert read_config(folder).layers == 2


@pytest.mark.parametrize(("changes", "text"), [
    ({"architectures": ["Qwen2ForCausalLM"]},
     r"architectures must be one of LlamaForCausalLM, MistralForCausalLM, not \['Qwen2ForCausalLM'\]"),
    ({"architectures": None}, r"architectures must be one of .*, not None"),
    ({"architectures": ["MistralForCausalLM"]}, r"must have sliding_window"),
    ({"architectures": ["MistralForCausalLM"], "sliding_window": 4096},
     r"sliding_window must be null: attention over all tokens, not 4096"),
    ({"hidden_act": "gelu"}, r"hidden_act must be 'silu', not 'gelu'"),
    ({"attention_bias": True}, r"attention_bias must be false, not True"),
    ({"mlp_bias": True}, r"mlp_bias must be false, not True"),
    ({"partial_rotary_factor": 0.5}, r"partial_rotary_factor must be 1: positions in all of a head, not 0\.5"),
    ({"quantization_config": {"bits": 4}},
     r"quantization_config must be absent: weights as floats, or as `heddle quantize` writes them, not \{'bits': 4\}"),
    ({"rope_scaling": {"type": "linear", "factor": 2}},
     r"rope_scaling must be null or of rope_type 'default', not \{'type': 'linear', 'factor': 2\}"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}},
     r"rope_parameters must be null or of rope_type 'default', not \{'full_attention': .*\}"),
    ({"hidden_size": None}, r"must have hidden_size"),
    ({"num_hidden_layers": 0}, r"num_hidden_layers must be a positive integer, not 0"),
    ({"vocab_size": 2.5}, r"vocab_size must be a positive integer, not 2\.5"),
    ({"vocab_size": True}, r"vocab_size must be a positive integer, not True"),
    ({"rms_norm_eps": "small"}, r"rms_norm_eps must be a positive number, not 'small'"),
    ({"rope_theta": float("inf")}, r"rope_theta must be a positive number, not inf"),
    ({"num_key_value_heads": 4}, r"num_key_value_heads must divide num_attention_heads of 6, not be 4"),
    ({"head_dim": None}, r"hidden_size must be a multiple of num_attention_heads of 6 where head_dim is absent, not 20"),
    ({"head_dim": 9}, r"head_dim must be even, for its halves are rotated, not 9"),
    ({"tie_word_embeddings": "yes"}, r"tie_word_embeddings must be true or false, not 'yes'"),
])
def test_a_config_that_we_do_not_compute_is_refused_by_its_field(tmp_path, changes, text):
    folder = write_llama(tmp_path / "m", {}, **changes)
    with pytest.raises(ModelError, match=rf"^{re.escape(str(folder / 'config.json'))}:? {text}$"):
        read_config(folder)


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match=rf"^MODEL must be a folder with config\.json, not '{re.escape(str(tmp_path))}'$"):
        LlamaModel(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json must be JSON: Expecting property name"):
        LlamaModel(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match=r"config\.json must be a JSON object, not \[1\]$"):
        LlamaModel(tmp_path)
    write_llama(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"must hold model\.safetensors or model\.safetensors\.index\.json$"):
        LlamaModel(tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shards", [1, 3])
def test_weights_are_what_the_file_holds(tmp_path, dtype, shards):
    tensors = {name: tensor.astype(dtype) for name, tensor in random_tensors(FIELDS).items()}
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(5, np.float32)       # old checkpoints have it
    model = LlamaModel(write_llama(tmp_path / "m", tensors, shards))
    model.checkpoint.check_values()
    weights = model.checkpoint.weights()
    assert len(weights.layers) == 2
    for i, layer in enumerate(weights.layers):
        for attribute, name in {"q": "self_attn.q_proj", "o": "self_attn.o_proj", "down": "mlp.down_proj",
                                "mlp_norm": "post_attention_layernorm"}.items():
            found = getattr(layer, attribute)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, tensors[f"model.layers.{i}.{name}.weight"].astype(np.float32))
    np.testing.assert_array_equal(weights.head, tensors["lm_head.weight"].astype(np.float32))
    np.testing.assert_array_equal(weights.embedding, tensors["model.embed_tokens.weight"].astype(np.float32))
    assert model.checkpoint.bits_per_weight == 8 * np.dtype(dtype).itemsize
    assert model.checkpoint.parameters == sum(tensor.size for name, tensor in tensors.items() if "inv_freq" not in name)
    assert weights.layers[-1].q.shape == (60, 20)
    assert len(weights.layers[:1]) == 1


def test_a_tied_embedding_is_the_head(tmp_path):
    tensors = random_tensors({**FIELDS, "tie_word_embeddings": True})
    folder = write_llama(tmp_path / "m", tensors | {"lm_head.weight": np.zeros((256, 20), np.float32)}, tie_word_embeddings=True)
    weights = LlamaModel(folder).checkpoint.weights()
    assert weights.head is weights.embedding
    np.testing.assert_array_equal(weights.head, tensors["model.embed_tokens.weight"])


def test_a_layer_is_read_when_it_is_asked_for(tmp_path):
    folder = write_llama(tmp_path / "m")
    seen = []
    weights = LlamaModel(folder).checkpoint.weights(lambda part, values, layer: seen.append(part) or values * 2)
    assert seen == ["head"]
    np.testing.assert_array_equal(weights.layers[1].q, 2 * random_tensors(FIELDS)[Q])
    assert seen == ["head", "q", "k", "v", "o", "gate", "up", "down"]


@pytest.mark.parametrize(("change", "text"), [
    ({Q: None}, rf"must hold {re.escape(Q)} of shape \(60, 20\), but has no such tensor"),
    ({"lm_head.weight": None}, r"must hold lm_head\.weight of shape \(256, 20\), but has no such tensor"),
    ({Q: np.zeros((20, 60), np.float32)}, r"q_proj\.weight must be of shape \(60, 20\) by .*config\.json, not \(20, 60\)"),
    ({Q: np.zeros((60, 20), np.int8)},
     r"q_proj\.weight of shape \(60, 20\) must be float32, float16, bfloat16 or quantized by `heddle quantize`, not I8"),
    ({"model.layers.2.mlp.up_proj.weight": np.zeros((28, 20), np.float32)},
     r"must hold tensors of its config\.json only, not model\.layers\.2\.mlp\.up_proj\.weight of shape \(28, 20\)"),
    ({"model.layers.0.self_attn.q_proj.bias": np.zeros(60, np.float32)},
     r"must hold tensors of its config\.json only, not model\.layers\.0\.self_attn\.q_proj\.bias of shape \(60,\)"),
])
def test_tensors_that_are_not_the_configs_are_refused_by_name(tmp_path, change, text):
    tensors = {name: tensor for name, tensor in {**random_tensors(FIELDS), **change}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=rf"{text}$"):
        LlamaModel(write_llama(tmp_path / "m", tensors))


@pytest.mark.parametrize(("name", "at", "where"), [
    (Q, (7, 3), "row 7, column 3"), ("model.norm.weight", (4,), "row 0, column 4")])
def test_a_weight_that_is_no_number_is_refused_with_its_place(tmp_path, name, at, where):
    tensors = random_tensors(FIELDS)
    tensors[name][at] = np.nan
    model = LlamaModel(write_llama(tmp_path / "m", tensors))
    with pytest.raises(CheckpointError, match=rf"^weights must be finite float32, not nan: {re.escape(name)}, {where}$"):
        model.checkpoint.check_values()


def test_progress_counts_every_weight(tmp_path):
    checkpoint = LlamaModel(write_llama(tmp_path / "m")).checkpoint
    seen = []
    checkpoint.check_values(seen.append)
    assert sum(seen) == checkpoint.parameters


@pytest.fixture
def quantized(tmp_path):
    """A model of which `heddle quantize` made another."""
    tensors = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in random_tensors(FIELDS).items()}
    folder = write_llama(tmp_path / "m", tensors)
    assert main(["quantize", str(folder), "--format", "int8", "--skip", "lm_head*", "-o", str(tmp_path / "q")]) == 0
    return tensors, tmp_path / "q"


def test_a_quantized_checkpoint_is_dequantized(quantized):
    tensors, folder = quantized
    checkpoint = LlamaModel(folder).checkpoint
    assert len(checkpoint.quantized) == 14
    checkpoint.check_values()
    weights = checkpoint.weights()
    np.testing.assert_array_equal(weights.layers[1].q, dequantize(quantize(tensors[Q], "int8")))
    np.testing.assert_array_equal(weights.head, tensors["lm_head.weight"].astype(np.float32))
    assert weights.layers[0].mlp_norm.dtype == np.float32
    stored = [quantize(tensor, "int8") for name, tensor in tensors.items() if "_proj" in name]
    assert checkpoint.bits_per_weight == 8 * sum(t.nbytes for t in stored) / sum(t.payload.size for t in stored)


def test_a_quantized_checkpoint_must_fit_the_config_too(quantized):
    _, folder = quantized
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, "intermediate_size": 30}))
    with pytest.raises(CheckpointError, match=r"gate_proj\.weight must be of shape \(30, 20\) by .*, not \(28, 20\)$"):
        LlamaModel(folder)


def test_a_norm_beside_quantized_weights_may_be_nan_no_more_than_others(tmp_path):
    tensors = random_tensors(FIELDS)
    tensors["model.norm.weight"][2] = np.inf
    folder = write_llama(tmp_path / "m", tensors)
    assert main(["quantize", str(folder), "--format", "int8", "-o", str(tmp_path / "q")]) == 0
    with pytest.raises(CheckpointError, match=r"^weights must be finite float32, not inf: model\.norm\.weight at \(2,\)$"):
        LlamaCheckpoint(tmp_path / "q", read_config(folder)).check_values()


def test_bytes_are_tokens():
    tokenizer = ByteTokenizer()
    assert tokenizer.by_bytes
    assert tokenizer.encode(b"a\xff") == [0, 97, 255]
    assert tokenizer.decode([0, 97, 255, 0]) == b"a\xff"


@pytest.fixture
def words(tmp_path):
    """Write a tokenizer of words that puts <s> before a text."""
    tokenizer = Tokenizer(WordLevel({"<s>": 0, "<unk>": 1, "def": 2, "f": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_tokenizer_file_is_used_where_there_is_one(words):
    tokenizer = open_tokenizer(words, 256)
    assert isinstance(tokenizer, FileTokenizer)
    assert not tokenizer.by_bytes
    assert tokenizer.encode(b"def f def what") == [0, 2, 3, 2, 1]
    assert tokenizer.decode([0, 2, 3]) == b"def f"


def test_a_tokenizer_must_be_the_models(words, tmp_path):
    with pytest.raises(ModelError, match=r"tokenizer\.json must have tokens below vocab_size of 3, not 3$"):
        open_tokenizer(words, 3)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json must be a tokenizer of Hugging Face: "):
        open_tokenizer(tmp_path, 256)
    (tmp_path / "tokenizer.json").unlink()
    assert isinstance(open_tokenizer(tmp_path, 256), ByteTokenizer)
    with pytest.raises(ModelError, match=r"must hold tokenizer\.json where vocab_size is not 256 \(bytes\), but is 300$"):
        open_tokenizer(tmp_path, 300)


def test_text_comes_character_by_character():
    """What is given out is never taken back; a character waits for its last byte, and so does one that is none for the next."""
    stream = TextStream(ByteTokenizer())
    assert [stream.push(byte) for byte in "né".encode()] == ["n", "", "é"]
    assert [stream.push(byte) for byte in b"\xe2\x82A"] == ["", "", "\ufffdA"]
    assert stream.push(0xF0) == ""
    assert stream.end() == "\ufffd"
    assert stream.end() == ""
    assert stream.text == "né\ufffdA\ufffd"


@pytest.mark.parametrize("seed", range(5))
def test_text_of_any_bytes(seed):
    """Whole, however it came: against Python's own decoder, on bytes of which many begin or go on with characters."""
    rng = np.random.default_rng(seed)
    data = rng.choice(np.array([*range(1, 256), *[0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0xC3, 0xA9] * 30], np.uint8), 200).tobytes()
    stream = TextStream(ByteTokenizer())
    given = "".join(stream.push(byte) for byte in data) + stream.end()
    assert given == stream.text == data.decode(errors="replace")


def test_text_of_words_keeps_the_spaces_between_them(words):
    stream = TextStream(open_tokenizer(words, 256))
    assert [stream.push(token) for token in (2, 3, 2)] == ["def", " f", " def"]


@pytest.mark.parametrize(("given", "tokens"), [({}, ()), ({"eos_token_id": 0}, (0,)), ({"eos_token_id": [3, 255]}, (3, 255))])
def test_tokens_that_end_a_text(tmp_path, given, tokens):
    folder = write_llama(tmp_path / "m", **given)
    assert LlamaModel(folder).end_tokens == frozenset(tokens)
    (folder / "generation_config.json").write_text(json.dumps({"max_length": 9}))
    assert LlamaModel(folder).end_tokens == frozenset(tokens)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7]}))
    assert LlamaModel(folder).end_tokens == {7}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": None}))
    assert LlamaModel(folder).end_tokens == frozenset()


@pytest.mark.parametrize("given", [256, -1, "</s>", [0, 256], True, 1.0])
def test_end_tokens_that_cannot_be(tmp_path, given):
    said = f"eos_token_id must be a token below vocab_size of 256, a list of such, or null, not {given!r}"
    with pytest.raises(ModelError, match=rf"config\.json: {re.escape(said)}$"):
        LlamaModel(write_llama(tmp_path / "m", eos_token_id=given))
    folder = write_llama(tmp_path / "n")
    (folder / "generation_config.json").write_text("[")
    with pytest.raises(ModelError, match=r"generation_config\.json must be JSON: "):
        LlamaModel(folder)
