"""Small synthetic checkpoints."""

import json

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file


def small_tensors(seed=0):
    """Return tensors as a language model has them: embedding, matrices of several types, norm, bias, integers, experts."""
    rng = np.random.default_rng(seed)

    def matrix(*shape, dtype=np.float32):
        return (rng.standard_normal(shape) * 0.05).astype(dtype)

    return {
        "model.embed_tokens.weight": matrix(40, 32),
        "model.layers.0.attn.q.weight": matrix(48, 32),
        "model.layers.0.attn.q.bias": matrix(48),
        "model.layers.0.mlp.up.weight": matrix(96, 48, dtype=ml_dtypes.bfloat16),
        "model.layers.0.mlp.down.weight": matrix(48, 96, dtype=np.float16),
        "model.layers.0.norm.weight": np.ones(48, ml_dtypes.bfloat16),
        "model.layers.0.experts.weight": matrix(3, 8, 32),
        "model.positions": np.arange(7, dtype=np.int64)[None],
        "model.step": np.array(3.0, np.float32),
        "model.none": np.zeros((0, 4), np.float32),
    }


MATRICES = ("model.layers.0.attn.q.weight", "model.layers.0.mlp.up.weight", "model.layers.0.mlp.down.weight")
"""What is quantized unless asked otherwise."""


def write_folder(folder, tensors, shards=1, **config):
    """Write a folder as Hugging Face lays it out; more than one shard go with an index."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "small", **config}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "extra").mkdir()
    (folder / "extra" / "config.json").write_text("[1]")
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    where = {}
    for index in range(shards):
        part = dict(list(tensors.items())[index::shards])
        name = f"model-{index + 1:05}-of-{shards:05}.safetensors"
        save_file(part, folder / name)
        where |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder
