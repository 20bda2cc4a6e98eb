"""Weights of a BERT encoder from a checkpoint: every tensor checked before one is used, a layer read when it is asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from sw.models.bert import BertConfig, BertLayer, BertWeights
from sw.models.tensors import ModelTensors

__all__ = ["BertCheckpoint"]

Array = npt.NDArray[np.float32]
_EMBEDDINGS = {"words": "word_embeddings", "positions": "position_embeddings", "types": "token_type_embeddings"}
_NORM = "embeddings.LayerNorm"
_PARTS = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "o": "attention.output.dense",
    "norm1": "attention.output.LayerNorm", "up": "intermediate.dense", "down": "output.dense", "norm2": "output.LayerNorm",
}
_UNUSED = ("pooler.*", "*.position_ids")     # of other tasks; what old checkpoints hold, though it only counts


def _shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """Return every tensor that a checkpoint must hold → its shape."""
    d, f = config.hidden, config.ffn
    rows = {"words": config.vocab, "positions": config.context, "types": config.types}
    found: dict[str, tuple[int, ...]] = {f"embeddings.{name}.weight": (rows[part], d) for part, name in _EMBEDDINGS.items()}
    shapes: dict[str, tuple[int, ...]] = {**dict.fromkeys(_PARTS, (d, d)), "up": (f, d), "down": (d, f), "norm1": (d,),
                                          "norm2": (d,)}
    pairs = {_NORM: shapes["norm1"]} | {f"encoder.layer.{layer}.{name}": shapes[part]
                                        for layer in range(config.layers) for part, name in _PARTS.items()}
    for name, shape in pairs.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found


class BertCheckpoint(ModelTensors):
    """Weights in a folder; names, shapes and types are checked, none is read.

    Parameters
    ----------
    folder : Path
        Holds model.safetensors, or model.safetensors.index.json and its shards.
    config : BertConfig

    Raises
    ------
    CheckpointError
        If the files are not whole, or a tensor is missing, of another shape or type, or none of the model's; the text names it.
    """

    def __init__(self, folder: Path, config: BertConfig):
        super().__init__(folder, _shapes(config), unused=_UNUSED)
        self.config = config

    def _pair(self, name: str) -> tuple[Array, Array]:
        return self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")

    def layer(self, index: int) -> BertLayer:
        """Return the weights of a layer."""
        return BertLayer(**{part: self._pair(f"encoder.layer.{index}.{name}") for part, name in _PARTS.items()})

    def weights(self) -> BertWeights:
        """Return all weights; each layer is read whenever it is asked for."""
        tables = {part: self.tensor(f"embeddings.{name}.weight") for part, name in _EMBEDDINGS.items()}
        return BertWeights(**tables, norm=self._pair(_NORM), layers=_Layers(self))


class _Layers(Sequence[BertLayer]):
    """The layers of a checkpoint, each read when it is asked for."""

    def __init__(self, checkpoint: BertCheckpoint):
        self._checkpoint = checkpoint

    def __len__(self) -> int:
        return self._checkpoint.config.layers

    @overload
    def __getitem__(self, index: int) -> BertLayer: ...
    @overload
    def __getitem__(self, index: slice) -> list[BertLayer]: ...
    def __getitem__(self, index: int | slice) -> BertLayer | list[BertLayer]:
        places = range(len(self))[index]        # IndexError at the end, as sequences have it
        if isinstance(places, range):
            return [self._checkpoint.layer(place) for place in places]
        return self._checkpoint.layer(places)
