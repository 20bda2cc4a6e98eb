"""A model of the Llama family in a folder as Hugging Face lays it out: config, tokenizer, weights."""

from pathlib import Path

from sw.golden.llama import LlamaConfig
from sw.models.llama_config import read_config, read_end_tokens
from sw.models.llama_weights import LlamaCheckpoint
from sw.models.tokenizer import Tokenizer, open_tokenizer

__all__ = ["LlamaModel"]


class LlamaModel:
    """A model; every tensor's name, shape and type is checked, no weight is read.

    Parameters
    ----------
    folder : Path
        Holds config.json, weights in safetensors files, and tokenizer.json unless tokens are bytes.

    Attributes
    ----------
    config : LlamaConfig
    tokenizer : Tokenizer
    end_tokens : frozenset of int
        Tokens that end a text.
    checkpoint : LlamaCheckpoint

    Raises
    ------
    ModelError
        If config or tokenizer are not there or not supported; the text names file and field.
    CheckpointError
        If the weights are not those of the config; the text names the tensor.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.config: LlamaConfig = read_config(folder)
        self.tokenizer: Tokenizer = open_tokenizer(folder, self.config.vocab)
        self.end_tokens = read_end_tokens(folder, self.config.vocab)
        self.checkpoint = LlamaCheckpoint(folder, self.config)
