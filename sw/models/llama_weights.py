"""Weights of the Llama family from a checkpoint: every tensor checked before one is used, a layer read when it is asked for."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from sw.checkpoint import CheckpointError
from sw.golden.llama import LlamaConfig, LlamaLayer, LlamaWeights
from sw.models.tensors import ModelTensors

__all__ = ["LAYER_TENSORS", "LlamaCheckpoint", "Transform"]

Array = npt.NDArray[np.float32]
Transform = Callable[[str, Array, int | None], Array]
"""What is done to a matrix when it is read: (part of `LAYER_TENSORS`, or "head"; values; layer, None for the head) → values.
A tied embedding is the head."""

_EMBEDDING, _NORM, _HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
_COMPUTED = ("*.rotary_emb.inv_freq",)      # which old checkpoints hold, though the config says it
LAYER_TENSORS = {
    "attention_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "mlp_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
"""Attribute of `LlamaLayer` → name of the tensor within its layer."""


def _name(layer: int, part: str) -> str:
    return f"model.layers.{layer}.{LAYER_TENSORS[part]}.weight"


def _layer_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    d, f, q, kv = config.hidden, config.ffn, config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {"attention_norm": (d,), "q": (q, d), "k": (kv, d), "v": (kv, d), "o": (d, q), "mlp_norm": (d,),
            "gate": (f, d), "up": (f, d), "down": (d, f)}


def _shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Return every tensor that a checkpoint must hold → its shape."""
    found: dict[str, tuple[int, ...]] = {_EMBEDDING: (config.vocab, config.hidden), _NORM: (config.hidden,)}
    if not config.tied:
        found[_HEAD] = (config.vocab, config.hidden)
    for layer, (part, shape) in itertools.product(range(config.layers), _layer_shapes(config).items()):
        found[_name(layer, part)] = shape
    return found


class LlamaCheckpoint(ModelTensors):
    """Weights in a folder, as floats or as `heddle quantize` writes them; names, shapes and types are checked, none is read.

    Floats are read a layer at a time; quantized weights are held as they are packed and dequantized a layer at a time.

    Parameters
    ----------
    folder : Path
        Holds model.safetensors, or model.safetensors.index.json and its shards.
    config : LlamaConfig

    Raises
    ------
    CheckpointError
        If the files are not whole, or a tensor is missing, of another shape or type, or none of the model's; the text names it.
    """

    def __init__(self, folder: Path, config: LlamaConfig):
        super().__init__(folder, _shapes(config), unused=(*_COMPUTED, *((_HEAD,) if config.tied else ())))
        self.config = config

    def layer(self, index: int, transform: Transform | None = None) -> LlamaLayer:
        """Return the weights of a layer; matrices go through `transform`.

        Raises
        ------
        CheckpointError
            If `transform` refuses a matrix; the text names it.
        """
        return LlamaLayer(**{part: self._transformed(part, _name(index, part), transform, index) for part in LAYER_TENSORS})

    def weights(self, transform: Transform | None = None) -> LlamaWeights:
        """Return all weights; each layer is read whenever it is asked for."""
        head = self._transformed("head", _EMBEDDING if self.config.tied else _HEAD, transform)
        embedding = head if self.config.tied else self.tensor(_EMBEDDING)
        return LlamaWeights(embedding=embedding, layers=_Layers(self, transform), norm=self.tensor(_NORM), head=head)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits of a weight, scales included: the mean over the matrices of the layers."""
        matrices = [self.stored[_name(layer, part)] for layer in range(self.config.layers)
                    for part in LAYER_TENSORS if not part.endswith("norm")]
        return 8 * sum(tensor.nbytes for tensor in matrices) / sum(math.prod(tensor.shape) for tensor in matrices)

    def _transformed(self, part: str, name: str, transform: Transform | None, layer: int | None = None) -> Array:
        values = self.tensor(name)
        if transform is None or values.ndim == 1:
            return values
        try:
            return transform(part, values, layer)
        except ValueError as error:
            raise CheckpointError(f"{name}: {error}") from None


class _Layers(Sequence[LlamaLayer]):
    """The layers of a checkpoint, each read when it is asked for."""

    def __init__(self, checkpoint: LlamaCheckpoint, transform: Transform | None):
        self._checkpoint, self._transform = checkpoint, transform

    def __len__(self) -> int:
        return self._checkpoint.config.layers

    @overload
    def __getitem__(self, index: int) -> LlamaLayer: ...
    @overload
    def __getitem__(self, index: slice) -> list[LlamaLayer]: ...
    def __getitem__(self, index: int | slice) -> LlamaLayer | list[LlamaLayer]:
        places = range(len(self))[index]        # IndexError at the end, as sequences have it
        if isinstance(places, range):
            return [self._checkpoint.layer(place, self._transform) for place in places]
        return self._checkpoint.layer(places, self._transform)
