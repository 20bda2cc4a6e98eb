"""Small random models of the Llama family, in folders as Hugging Face lays them out, and an independent forward pass."""

import cmath
import json
import math

import numpy as np
from safetensors.numpy import save_file

FIELDS = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 256, "hidden_size": 20, "intermediate_size": 28,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10, "max_position_embeddings": 16,
    "rope_theta": 100.0, "rms_norm_eps": 1e-3, "hidden_act": "silu", "tie_word_embeddings": False,
}
"""Grouped queries, an untied output matrix, and heads that do not add up to the hidden size."""


def random_tensors(fields, seed=0):
    """Return the tensors of a config, float32."""
    rng = np.random.default_rng(seed)
    d, f, e = fields["hidden_size"], fields["intermediate_size"], fields["head_dim"]
    q, kv, v = fields["num_attention_heads"] * e, fields["num_key_value_heads"] * e, fields["vocab_size"]

    def matrix(rows, columns):
        return (rng.standard_normal((rows, columns)) / math.sqrt(columns)).astype(np.float32)

    def norm():
        return (1 + 0.2 * rng.standard_normal(d)).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(v, d), "model.norm.weight": norm()}
    if not fields["tie_word_embeddings"]:
        tensors["lm_head.weight"] = matrix(v, d)
    for i in range(fields["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        for name, shape in {"self_attn.q_proj": (q, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d),
                            "self_attn.o_proj": (d, q), "mlp.gate_proj": (f, d), "mlp.up_proj": (f, d),
                            "mlp.down_proj": (d, f)}.items():
            tensors[f"{layer}.{name}.weight"] = matrix(*shape)
        tensors[f"{layer}.input_layernorm.weight"] = norm()
        tensors[f"{layer}.post_attention_layernorm.weight"] = norm()
    return tensors


def write_llama(folder, tensors=None, shards=1, **changes):
    """Write a model; `changes` are of config.json, None removes a field; return the folder."""
    fields = {name: value for name, value in {**FIELDS, **changes}.items() if value is not None}
    tensors = random_tensors({**FIELDS, **fields}) if tensors is None else tensors
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    where = {}
    for index in range(shards):
        part = dict(list(tensors.items())[index::shards])
        name = f"model-{index + 1:05}-of-{shards:05}.safetensors"
        save_file(part, folder / name)
        where |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def plain_logits(fields, tensors, tokens):
    """Return logits of each token, lists of float64: loops, one token after the other, as the formulas stand in the papers."""
    w = {name: tensor.astype(np.float64).tolist() for name, tensor in tensors.items()}
    heads, kv_heads, e = fields["num_attention_heads"], fields["num_key_value_heads"], fields["head_dim"]

    def times(matrix, x):
        return [sum(a * b for a, b in zip(row, x, strict=True)) for row in matrix]

    def norm(x, weight):
        root = math.sqrt(sum(value * value for value in x) / len(x) + fields["rms_norm_eps"])
        return [value / root * g for value, g in zip(x, weight, strict=True)]

    def turned(x, position):
        """Take each pair as a complex number and turn it by position · theta^(−2i/e)."""
        angles = [position * fields["rope_theta"] ** (-2 * i / e) for i in range(e // 2)]
        z = [complex(x[i], x[i + e // 2]) * cmath.exp(1j * angle) for i, angle in enumerate(angles)]
        return [value.real for value in z] + [value.imag for value in z]

    cache = [[] for _ in range(fields["num_hidden_layers"])]
    found = []
    for position, token in enumerate(tokens):
        x = w["model.embed_tokens.weight"][token]
        for i, past in enumerate(cache):
            def of(name, layer=f"model.layers.{i}"):
                return w[f"{layer}.{name}.weight"]

            y = norm(x, of("input_layernorm"))
            q, k, v = (times(of(f"self_attn.{name}_proj"), y) for name in "qkv")
            past.append([(turned(k[g * e:(g + 1) * e], position), v[g * e:(g + 1) * e]) for g in range(kv_heads)])
            context = []
            for h in range(heads):
                g = h * kv_heads // heads
                query = turned(q[h * e:(h + 1) * e], position)
                scores = [math.exp(sum(a * b for a, b in zip(query, entry[g][0], strict=True)) / math.sqrt(e)) for entry in past]
                context += [sum(s * entry[g][1][j] for s, entry in zip(scores, past, strict=True)) / sum(scores)
                            for j in range(e)]
            x = [a + b for a, b in zip(x, times(of("self_attn.o_proj"), context), strict=True)]
            y = norm(x, of("post_attention_layernorm"))
            gated = [g / (1 + math.exp(-g)) * u for g, u in zip(times(of("mlp.gate_proj"), y), times(of("mlp.up_proj"), y),
                                                                  strict=True)]
            x = [a + b for a, b in zip(x, times(of("mlp.down_proj"), gated), strict=True)]
        head = "model.embed_tokens.weight" if fields["tie_word_embeddings"] else "lm_head.weight"
        found.append(times(w[head], norm(x, w["model.norm.weight"])))
    return found
