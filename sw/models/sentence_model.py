"""A sentence transformer in a folder as Hugging Face lays it out: config, tokenizer, weights of a BERT encoder."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sw.models.bert import BertWeights, encode_float
from sw.models.bert_config import read_bert_config
from sw.models.bert_weights import BertCheckpoint
from sw.models.tokenizer import Tokenizer, open_tokenizer

__all__ = ["SentenceModel", "TextError"]


class TextError(ValueError):
    """A text that the model cannot take."""


class SentenceModel:
    """A model; every tensor's name, shape and type is checked, no weight is read.

    Parameters
    ----------
    folder : Path
        Holds config.json, tokenizer.json and weights in safetensors files.

    Attributes
    ----------
    config : BertConfig
    tokenizer : Tokenizer
    checkpoint : BertCheckpoint

    Raises
    ------
    ModelError
        If config or tokenizer are not there or not supported; the text names file and field.
    CheckpointError
        If the weights are not those of the config; the text names the tensor.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = read_bert_config(folder)
        self.tokenizer: Tokenizer = open_tokenizer(folder, self.config.vocab)
        self.checkpoint = BertCheckpoint(folder, self.config)
        self._weights: BertWeights | None = None

    @property
    def weights(self) -> BertWeights:
        """All weights; embeddings are read once, a layer whenever it is asked for."""
        if self._weights is None:
            self._weights = self.checkpoint.weights()
        return self._weights

    def sentence(self, text: str) -> list[int]:
        """Return the token numbers of a text, [CLS] and [SEP] or what the model has instead included.

        Raises
        ------
        TextError
            If it has no tokens of its own, or more than the model has positions.
        """
        tokens = self.tokenizer.encode(os.fsencode(text))
        if len(tokens) <= len(self.tokenizer.encode(b"")):
            raise TextError(f"a text must have at least one token, not none as {text!r}")
        if len(tokens) > self.config.context:
            raise TextError(f"a text must have at most {self.config.context} tokens, the model's positions, not {len(tokens)} as "
                            f"{text[:40]!r}…")
        return tokens

    def encode_tokens(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        """Return the embedding in float32, (hidden,): what the accelerator's is compared with."""
        return encode_float(self.config, self.weights, tokens)
