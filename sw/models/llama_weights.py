"""Weights of the Llama family from a checkpoint: every tensor checked before one is used, a layer read when it is asked for."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from sw.checkpoint import CheckpointError, StoredTensor, open_checkpoint
from sw.checkpoint.matrix import StoredMatrix
from sw.formats import QuantizedTensor, dequantize, load
from sw.golden.llama import LlamaConfig, LlamaLayer, LlamaWeights
from sw.program import METADATA_KEY

__all__ = ["LAYER_TENSORS", "LlamaCheckpoint", "Transform"]

Array = npt.NDArray[np.float32]
Transform = Callable[[str, Array], Array]
"""What is done to a matrix when it is read: (part of `LAYER_TENSORS`, or "head"; values) → values. A tied
embedding is the head."""

_DTYPES = ("F32", "F16", "BF16", "float32", "float16", "bfloat16")     # as safetensors and as numpy call them
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


class LlamaCheckpoint:
    """Weights in a folder, as floats or as `heddle quantize` writes them; names, shapes and types are checked, none is read.

    Floats are read a layer at a time; quantized weights are held as they are packed and dequantized a layer at a time.

    Parameters
    ----------
    folder : Path
        Holds model.safetensors, or model.safetensors.index.json and its shards.
    config : LlamaConfig

    Attributes
    ----------
    quantized : dict of str to QuantizedTensor
        Of a quantized checkpoint, by name; else empty.

    Raises
    ------
    CheckpointError
        If the files are not whole, or a tensor is missing, of another shape or type, or none of the model's; the text names it.
    """

    def __init__(self, folder: Path, config: LlamaConfig):
        self.folder, self.config = folder, config
        self._tensors: dict[str, StoredTensor | QuantizedTensor | npt.NDArray[Any]] = _tensors(folder)
        self.quantized = {name: tensor for name, tensor in self._tensors.items() if isinstance(tensor, QuantizedTensor)}
        expected = _shapes(config)
        for name, shape in expected.items():
            if name not in self._tensors:
                raise CheckpointError(f"{folder} must hold {name} of shape {shape}, but has no such tensor")
            tensor = self._tensors[name]
            if tuple(tensor.shape) != shape:
                raise CheckpointError(f"{name} must be of shape {shape} by {folder / 'config.json'}, not {tuple(tensor.shape)}")
            if not isinstance(tensor, QuantizedTensor) and str(tensor.dtype) not in _DTYPES:
                raise CheckpointError(f"{name} of shape {shape} must be float32, float16, bfloat16 or quantized by "
                                      f"`heddle quantize`, not {tensor.dtype}")
        unused = {_HEAD} if config.tied else set()
        for name in sorted(self._tensors.keys() - expected.keys() - unused):
            if not any(fnmatchcase(name, glob) for glob in _COMPUTED):
                raise CheckpointError(f"{folder} must hold tensors of its config.json only, not {name} of shape "
                                      f"{tuple(self._tensors[name].shape)}")

    def check_values(self, progress: Callable[[int], None] = lambda values: None) -> None:
        """Read every weight once, some rows at a time.

        `progress` is called with how many more have been read.

        Raises
        ------
        CheckpointError
            If one is not a finite number; the text names tensor, row and column.
        """
        for name in _shapes(self.config):
            tensor = self._tensors[name]
            if isinstance(tensor, StoredTensor):
                for _, rows in StoredMatrix(tensor, len(tensor.shape) - 1).chunks():
                    progress(rows.size)
                continue
            values = _values(tensor)
            if not np.isfinite(values).all():
                at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
                raise CheckpointError(f"weights must be finite float32, not {values[at]}: {name} at {at}")
            progress(values.size)

    def tensor(self, name: str) -> Array:
        """Return one tensor by its name, float32."""
        return _values(self._tensors[name])

    def layer(self, index: int, transform: Transform | None = None) -> LlamaLayer:
        """Return the weights of a layer; matrices go through `transform`.

        Raises
        ------
        CheckpointError
            If `transform` refuses a matrix; the text names it.
        """
        return LlamaLayer(**{part: self._transformed(part, _name(index, part), transform) for part in LAYER_TENSORS})

    def weights(self, transform: Transform | None = None) -> LlamaWeights:
        """Return all weights; each layer is read whenever it is asked for."""
        head = self._transformed("head", _EMBEDDING if self.config.tied else _HEAD, transform)
        embedding = head if self.config.tied else self.tensor(_EMBEDDING)
        return LlamaWeights(embedding=embedding, layers=_Layers(self, transform), norm=self.tensor(_NORM), head=head)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits of a weight, scales included: the mean over the matrices of the layers."""
        matrices = [self._tensors[_name(layer, part)] for layer in range(self.config.layers)
                    for part in LAYER_TENSORS if not part.endswith("norm")]
        return 8 * sum(tensor.nbytes for tensor in matrices) / sum(math.prod(tensor.shape) for tensor in matrices)

    @property
    def parameters(self) -> int:
        """Weights, norms and embedding included."""
        return sum(map(math.prod, _shapes(self.config).values()))

    def _transformed(self, part: str, name: str, transform: Transform | None) -> Array:
        values = self.tensor(name)
        if transform is None or values.ndim == 1:
            return values
        try:
            return transform(part, values)
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


def _tensors(folder: Path) -> dict[str, Any]:
    """Return the tensors of a folder by name: where they lie, or quantized as `heddle quantize` wrote them."""
    stored = open_checkpoint(folder)
    for file in sorted({tensor.file for tensor in stored}):
        with safe_open(file, framework="numpy") as opened:
            header = json.loads((opened.metadata() or {}).get(METADATA_KEY, "null"))
        if header is not None:
            return dict(load(file))
    return {tensor.name: tensor for tensor in stored}


def _values(tensor: StoredTensor | QuantizedTensor | npt.NDArray[Any]) -> Array:
    """Return all values, float32 of the tensor's shape."""
    if isinstance(tensor, QuantizedTensor):
        return dequantize(tensor)
    values = tensor.values(0, tensor.rows) if isinstance(tensor, StoredTensor) else tensor
    return np.ascontiguousarray(values, np.float32).reshape(tensor.shape)
