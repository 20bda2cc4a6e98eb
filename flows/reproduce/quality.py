"""What number formats cost a language model, for rows of a comparison."""

from collections.abc import Mapping

from flows.reproduce.options import Options
from sw.evaluate import Evaluation, evaluate, windows_of
from sw.models.llama import LlamaModel
from sw.models.llama_quantization import QuantizationPlan
from sw.models.python_text import documents

__all__ = ["WINDOWS", "evaluations"]

WINDOWS = 50
_CONTEXT = 2048


def evaluations(options: Options, plans: Mapping[str, QuantizationPlan]) -> dict[str, Evaluation]:
    """Return what each plan costs the model of `options`, by the same windows of the held-out text as `heddle eval`.

    `Evaluation.bits` are the bits per byte of a model whose tokens are bytes.

    Raises
    ------
    ValueError
        If `options` has no model, or the model cannot be read or evaluated.
    """
    if options.model is None:
        raise ValueError("quality must be of a model: Options.model must be a folder, not None")
    model = LlamaModel(options.model)
    text = [token for document in documents()[1].values() for token in model.tokenizer.encode(document)]
    windows = windows_of(text, min(model.config.context, _CONTEXT), options.windows or WINDOWS)
    return {name: evaluate(model.checkpoint, plan, windows) for name, plan in plans.items()}
