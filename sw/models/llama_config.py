"""config.json of the Llama family: read, and refused by the name of the field where we do not compute what it asks for."""

from pathlib import Path
from typing import Any

from sw.golden.llama import LlamaConfig
from sw.models.config_file import ModelError, check_only, positive, read_fields, read_object, required

__all__ = ["ARCHITECTURES", "ModelError", "read_config", "read_end_tokens"]

_REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")

ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "LlamaForCausalLM": (),
    "MistralForCausalLM": ("num_key_value_heads", "sliding_window"),
}
"""Classes of Hugging Face that compute what `sw.golden.llama` does, within the limits of `_ONLY` → fields that must be there
because their defaults are not those of Llama."""

_ROPE = {"rope_type", "type", "rope_theta"}

_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "hidden_act": (("silu", "swish"), "'silu'"),
    "attention_bias": ((False, None), "false"),
    "mlp_bias": ((False, None), "false"),
    "sliding_window": ((None,), "null: attention over all tokens"),
    "partial_rotary_factor": ((1, None), "1: positions in all of a head"),
    "quantization_config": ((None,), "absent: weights as floats, or as `heddle quantize` writes them"),
}
"""Field → (values whose computation is ours, what to say they are)."""


def read_config(folder: Path) -> LlamaConfig:
    """Return the config of a model in the layout of Hugging Face.

    Defaults of fields that are absent are those of Hugging Face's `LlamaConfig`.

    Parameters
    ----------
    folder : Path
        Holds config.json.

    Raises
    ------
    ModelError
        If there is no such file, it is no JSON object, an architecture or field is not supported, or sizes cannot be.
    """
    path, fields = read_fields(folder)
    _check_supported(path, fields)
    return _sizes(path, fields)


def read_end_tokens(folder: Path, vocab: int) -> frozenset[int]:
    """Return the tokens that end a text: `eos_token_id` of generation_config.json, else of config.json; none where it is absent.

    Parameters
    ----------
    folder : Path
    vocab : int
        Tokens that the model knows.

    Raises
    ------
    ModelError
        If they are no tokens of the model.
    """
    path, fields = read_fields(folder)
    own = folder / "generation_config.json"
    if own.is_file() and "eos_token_id" in (other := read_object(own)):
        path, fields = own, other
    given = fields.get("eos_token_id")
    tokens = [] if given is None else given if isinstance(given, list) else [given]
    if not all(type(token) is int and 0 <= token < vocab for token in tokens):
        raise ModelError(f"{path}: eos_token_id must be a token below vocab_size of {vocab}, a list of such, or null, "
                         f"not {given!r}")
    return frozenset(tokens)


def _check_supported(path: Path, fields: dict[str, Any]) -> None:
    """Refuse what `sw.golden.llama` does not compute."""
    listed = fields.get("architectures")
    if not isinstance(listed, list) or len(listed) != 1 or listed[0] not in list(ARCHITECTURES):
        raise ModelError(f"{path}: architectures must be one of {', '.join(ARCHITECTURES)}, not {listed!r}")
    for name in ARCHITECTURES[listed[0]]:
        if name not in fields:
            raise ModelError(f"{path} must have {name}")
    check_only(path, fields, _ONLY)
    for name in ("rope_scaling", "rope_parameters"):
        scaling = fields.get(name)
        if scaling is not None and not (isinstance(scaling, dict) and set(scaling) <= _ROPE
                                        and scaling.get("rope_type", scaling.get("type", "default")) == "default"):
            raise ModelError(f"{path}: {name} must be null or of rope_type 'default', not {scaling!r}")


def _sizes(path: Path, fields: dict[str, Any]) -> LlamaConfig:
    """Return the config after checking each number."""

    def number(name: str, default: Any, kinds: tuple[type, ...] = (int,)) -> Any:
        return positive(path, fields, name, default, kinds)

    vocab, hidden, ffn, layers, heads = required(path, fields, _REQUIRED)
    kv_heads = number("num_key_value_heads", heads)
    if heads % kv_heads:
        raise ModelError(f"{path}: num_key_value_heads must divide num_attention_heads of {heads}, not be {kv_heads}")
    if fields.get("head_dim") is None and hidden % heads:
        raise ModelError(f"{path}: hidden_size must be a multiple of num_attention_heads of {heads} where head_dim is absent, "
                         f"not {hidden}")
    head_dim = number("head_dim", hidden // heads)
    if head_dim % 2:
        raise ModelError(f"{path}: head_dim must be even, for its halves are rotated, not {head_dim}")
    tied = fields.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise ModelError(f"{path}: tie_word_embeddings must be true or false, not {tied!r}")
    theta = number("rope_theta", (fields.get("rope_parameters") or {}).get("rope_theta", 10000.0), (int, float))
    return LlamaConfig(vocab=vocab, hidden=hidden, ffn=ffn, layers=layers, heads=heads, kv_heads=kv_heads, head_dim=head_dim,
                       context=number("max_position_embeddings", 2048), rope_theta=float(theta),
                       norm_eps=float(number("rms_norm_eps", 1e-6, (int, float))), tied=tied)
