"""Small random BERT encoders, in folders as Hugging Face lays them out, and an independent forward pass in float64."""

import json
import math

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

FIELDS = {
    "architectures": ["BertModel"], "model_type": "bert", "vocab_size": 41, "hidden_size": 36, "intermediate_size": 52,
    "num_hidden_layers": 2, "num_attention_heads": 3, "max_position_embeddings": 70, "type_vocab_size": 2,
    "layer_norm_eps": 1e-3, "hidden_act": "gelu", "position_embedding_type": "absolute",
}
"""No size a power of two; heads of 12 columns, rows of 144 bytes, which are no multiple of a slice."""

MODULES = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
           for i, (path, kind) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")))]
POOLING = {"word_embedding_dimension": 36, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
           "pooling_mode_max_tokens": False}


def random_tensors(fields, seed=0):
    """Return the tensors of a config, float32; attention is neither flat nor all on one token."""
    rng = np.random.default_rng(seed)
    d, f = fields["hidden_size"], fields["intermediate_size"]

    def table(rows):
        return rng.standard_normal((rows, d)).astype(np.float32)

    tensors = {"embeddings.word_embeddings.weight": table(fields["vocab_size"]),
               "embeddings.position_embeddings.weight": table(fields["max_position_embeddings"]),
               "embeddings.token_type_embeddings.weight": table(fields["type_vocab_size"])}

    def pair(name, outputs, inputs=None, gain=1.0):
        bias = rng.standard_normal(outputs) / 2
        weight = rng.uniform(0.5, 1.5, outputs)
        if inputs is not None:
            weight = gain * rng.standard_normal((outputs, inputs)) / math.sqrt(inputs)
        tensors.update({f"{name}.weight": weight.astype(np.float32), f"{name}.bias": bias.astype(np.float32)})

    pair("embeddings.LayerNorm", d)
    for i in range(fields["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            pair(f"{layer}.attention.self.{part}", d, d, 1.0 if part == "value" else 1.3)
        pair(f"{layer}.attention.output.dense", d, d)
        pair(f"{layer}.attention.output.LayerNorm", d)
        pair(f"{layer}.intermediate.dense", f, d)
        pair(f"{layer}.output.dense", d, f)
        pair(f"{layer}.output.LayerNorm", d)
    return tensors


def write_bert(folder, tensors=None, modules=MODULES, pooling=POOLING, **changes):
    """Write a model; `changes` are of config.json, None removes a field; return the folder."""
    fields = {name: value for name, value in {**FIELDS, **changes}.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    save_file(random_tensors({**FIELDS, **fields}) if tensors is None else tensors, folder / "model.safetensors")
    if modules is not None:
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(fields["vocab_size"] - 4))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def plain_embedding(fields, tensors, tokens, factors=None):
    """Return the embedding of a sentence, (hidden,) float64, written as the formulas stand in the papers.

    factors: `Smoothing` of each layer; then weights, the inputs of linears, and queries, keys and values are rounded to int8
    where the accelerator does it.
    """
    w = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    heads = fields["num_attention_heads"]
    e = fields["hidden_size"] // heads

    def int8(x):
        """Round each row with a scale of its own."""
        scale = np.abs(x).max(axis=-1, keepdims=True) / 127
        return x if factors is None else np.rint(x / scale) * scale

    def times(x, name, smooth=1.0):
        return int8(x / smooth) @ int8(w[f"{name}.weight"] * smooth).T + w[f"{name}.bias"]

    def norm(x, name):
        mean = x.mean(axis=1, keepdims=True)
        deviation = np.sqrt(((x - mean) ** 2).mean(axis=1, keepdims=True) + fields["layer_norm_eps"])
        return (x - mean) / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x):
        return np.vectorize(lambda value: value * math.erfc(-value / math.sqrt(2)) / 2)(x)

    x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][:len(tokens)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(fields["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        attention, mlp = (1.0, 1.0) if factors is None else (factors[i].attention, factors[i].mlp)
        q, k, v = (times(x, f"{layer}.attention.self.{part}", attention) for part in ("query", "key", "value"))
        context = []
        for h in range(heads):
            one = slice(h * e, (h + 1) * e)
            p = np.exp(int8(q[:, one]) @ int8(k[:, one]).T / math.sqrt(e))
            context.append(p / p.sum(axis=1, keepdims=True) @ int8(v[:, one]))
        x = norm(x + times(np.concatenate(context, axis=1), f"{layer}.attention.output.dense"),
                 f"{layer}.attention.output.LayerNorm")
        up = gelu(times(x, f"{layer}.intermediate.dense", mlp))
        x = norm(x + times(up, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)
