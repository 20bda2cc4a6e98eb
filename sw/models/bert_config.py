"""config.json of a BERT encoder, and how its sentences are pooled: refused by the name of what we do not compute."""

from pathlib import Path
from typing import Any

from sw.models.bert import BertConfig
from sw.models.config_file import ModelError, check_only, positive, read_fields, read_json, read_object, required

__all__ = ["read_bert_config"]

_REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")

_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "architectures": ((["BertModel"],), "['BertModel']"),
    "hidden_act": (("gelu",), "'gelu', with the error function"),
    "position_embedding_type": (("absolute", None), "'absolute'"),
    "is_decoder": ((False, None), "false"),
    "add_cross_attention": ((False, None), "false"),
    "quantization_config": ((None,), "absent: weights as floats, or as `heddle quantize` writes them"),
}
"""Field → (values whose computation is ours, what to say they are)."""

_MODULES = ("Transformer", "Pooling", "Normalize")


def read_bert_config(folder: Path) -> BertConfig:
    """Return the config of a sentence transformer in the layout of Hugging Face.

    Defaults of fields that are absent are those of Hugging Face's `BertConfig`; without modules.json, sentences are pooled as we
    do it.

    Parameters
    ----------
    folder : Path
        Holds config.json; where it is there, modules.json, and 1_Pooling/config.json or what that calls the pooling.

    Raises
    ------
    ModelError
        If there is no such file, it is no JSON, a field is not supported, or sizes cannot be.
    """
    path, fields = read_fields(folder)
    if "architectures" not in fields:
        raise ModelError(f"{path} must have architectures")
    check_only(path, fields, _ONLY)
    vocab, hidden, ffn, layers, heads = required(path, fields, _REQUIRED)
    if hidden % heads:
        raise ModelError(f"{path}: hidden_size must be a multiple of num_attention_heads of {heads}, not {hidden}")
    _check_pooling(folder)
    return BertConfig(
        vocab=vocab, hidden=hidden, ffn=ffn, layers=layers, heads=heads,
        context=positive(path, fields, "max_position_embeddings", 512), types=positive(path, fields, "type_vocab_size", 2),
        norm_eps=float(positive(path, fields, "layer_norm_eps", 1e-12, (int, float))))


def _check_pooling(folder: Path) -> None:
    """Refuse what is not the mean over all tokens, brought to length one."""
    path = folder / "modules.json"
    if not path.is_file():
        return
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(m, dict) and {"type", "path"} <= m.keys() for m in modules):
        raise ModelError(f"{path} must be a list of modules with type and path, not {modules!r}")
    names = tuple(str(module["type"]).rsplit(".", 1)[-1] for module in modules)
    if names not in (_MODULES, _MODULES[:2]):
        raise ModelError(f"{path}: modules must be {', '.join(_MODULES)}, not {', '.join(names)}")
    pooling = folder / str(modules[1]["path"]) / "config.json"
    if not pooling.is_file():
        raise ModelError(f"{pooling} must be there, as {path} says")
    modes = [name for name, value in read_object(pooling).items() if name.startswith("pooling_mode_") and value]
    if modes != ["pooling_mode_mean_tokens"]:
        raise ModelError(f"{pooling}: pooling_mode_mean_tokens must be the only mode that is true, "
                         f"not {', '.join(modes) or 'none'}")
