"""`heddle eval`: how well a model predicts text with its numbers quantized, beside the unquantized figure."""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from flows.commands.common import add_json_argument, check_output_folder, console, log, print_json, windows_of_text
from flows.scatter import Point, scatter_svg
from flows.sweep import SWEEP
from sw.evaluate import Evaluation, TextError, Windows, evaluate, steps_of, windows_of
from sw.models.llama import LlamaModel
from sw.models.llama_config import ModelError
from sw.models.llama_quantization import QuantizationPlan
from sw.models.python_text import documents

__all__ = ["add_arguments", "run"]

_FORMATS = ("weights", "activations", "kv", "queries", "probabilities", "head")
_WINDOWS, _CONTEXT = 200, 2048
_EXACT = "FP32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Measure how well a model of the Llama family predicts text, with its numbers quantized and without: bits per byte where "
        "its tokens are bytes, else perplexity. Runs on the golden float32 model; quantized numbers are rounded to their format "
        "and computed with as float32. Windows of the context's length overlap by half; the second half of each counts, of the "
        "first all.")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR",
                        help="a folder with config.json and model.safetensors (or its index), also one of `heddle quantize`")
    parser.add_argument("--weights", metavar="F", help="format of the layers' matrices; see `heddle formats`")
    parser.add_argument("--activations", metavar="F", help="format of the linears' inputs, each token by itself")
    parser.add_argument("--kv", metavar="F", help="format of keys and values as they are cached, for each token and head")
    parser.add_argument("--queries", metavar="F", help="format of the queries, for each token and head")
    parser.add_argument("--probabilities", metavar="F", help="format of the attention probabilities")
    parser.add_argument("--head", metavar="F", help="format of the output matrix and of the embedding tied to it (default: kept)")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--text", type=Path, metavar="FILE", help="predict this file")
    text.add_argument("--held-out", action="store_true",
                      help="predict the held-out files of Python's own library, which this project's models have not seen "
                      "(the default)")
    parser.add_argument("--windows", default=_WINDOWS, type=_count, metavar="N",
                        help="so many windows, spread evenly over the text, or `all` (default: %(default)s)")
    parser.add_argument("--context", type=int, metavar="N",
                        help=f"tokens of a window (default: what the model was trained on, at most {_CONTEXT})")
    parser.add_argument("--sweep", action="store_true", help="compare the usual combinations of formats")
    parser.add_argument("-o", "--output", dest="out", type=Path, metavar="DIR", help="write eval.json, and with --sweep eval.svg")
    add_json_argument(parser)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a positive integer or 'all', not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> bool:
    """Evaluate, print what was found, and return true."""
    plans = _plans(args)
    if args.out is not None:
        check_output_folder(args.out, "-o")
    model = LlamaModel(args.model)
    if model.checkpoint.quantized and any(plan.quantizes_weights for plan in plans.values()):
        raise ModelError(f"{args.model} must hold weights as floats for {'--sweep' if args.sweep else '--weights or --head'}, "
                         "but they are quantized")
    windows = _windows(args, model)
    found = _evaluate(model, plans, windows)
    answer = _answer(args, model, windows, found)
    if args.out is not None:
        _write(args.out, answer)
    if args.json:
        print_json(answer)
    else:
        _show(args, answer)
    return True


def _plans(args: argparse.Namespace) -> dict[str, QuantizationPlan]:
    """Return name → plan; the first quantizes nothing."""
    given = {name: getattr(args, name) for name in _FORMATS if getattr(args, name) is not None}
    if not args.sweep:
        return {_EXACT: QuantizationPlan(), **({"quantized": QuantizationPlan.named(**given)} if given else {})}
    if given:
        raise ValueError(f"--sweep must go without --{next(iter(given))}: it has its own formats")
    return SWEEP


def _windows(args: argparse.Namespace, model: LlamaModel) -> Windows:
    context = min(model.config.context, _CONTEXT) if args.context is None else args.context
    if not 2 <= context <= model.config.context:
        raise ValueError(f"--context must be between 2 and the model's {model.config.context}, not {context}")
    if args.text is not None:
        if not args.text.is_file():
            raise ValueError(f"--text must be a file, not {str(args.text)!r}")
        texts = [args.text.read_bytes()]
    else:
        texts = [*documents()[1].values()]
    try:
        return windows_of([token for text in texts for token in model.tokenizer.encode(text)], context, args.windows)
    except TextError as error:
        raise TextError(f"{'the held-out text' if args.text is None else args.text}: {error}") from None


def _evaluate(model: LlamaModel, plans: dict[str, QuantizationPlan], windows: Windows) -> dict[str, Evaluation]:
    with Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=log,
                  transient=True, disable=not log.is_terminal) as progress:
        task = progress.add_task("reading", total=model.checkpoint.parameters)
        model.checkpoint.check_values(lambda values: progress.advance(task, values))
        progress.update(task, total=steps_of(model.config, windows) * len(plans), completed=0)
        found = {}
        for name, plan in plans.items():
            progress.update(task, description=escape(name))
            found[name] = evaluate(model.checkpoint, plan, windows, lambda: progress.advance(task))
        return found


def _answer(args: argparse.Namespace, model: LlamaModel, windows: Windows, found: dict[str, Evaluation]) -> dict[str, Any]:
    key = "bits_per_byte" if model.tokenizer.by_bytes else "perplexity"

    def figure(evaluation: Evaluation) -> float:
        return evaluation.bits if model.tokenizer.by_bytes else evaluation.perplexity

    *_, last = found.values()
    exact = None if model.checkpoint.quantized else figure(found[_EXACT])
    shown = found[_EXACT] if args.sweep else last
    answer: dict[str, Any] = {
        "model": str(args.model), "parameters": model.checkpoint.parameters,
        "text": "held-out files of Python's library" if args.text is None else str(args.text),
        "python": platform.python_version() if args.text is None else None,
        **({} if args.sweep else {name: getattr(args, name) for name in _FORMATS}),
        key: figure(shown), "unquantized": exact, "windows": len(windows.tokens), "context": windows.tokens.shape[1] - 1,
        "tokens": windows.counted, "bits_per_weight": shown.bits_per_weight,
        "seconds": sum(evaluation.seconds for evaluation in found.values()),
    }
    if args.sweep:
        answer["rows"] = [{"name": name, **_formats_of(SWEEP[name]), key: figure(evaluation),
                           "ratio": figure(evaluation) / figure(found[_EXACT]), "bits_per_weight": evaluation.bits_per_weight,
                           "seconds": evaluation.seconds} for name, evaluation in found.items()]
    return answer


def _formats_of(plan: QuantizationPlan) -> dict[str, str | None]:
    formats = {"weights": plan.mlp, "activations": plan.activations, "kv": plan.keys, "queries": plan.queries,
               "probabilities": plan.probabilities}
    return {name: None if fmt is None else fmt.name for name, fmt in formats.items()}


def _write(out: Path, answer: dict[str, Any]) -> None:
    (out / "eval.json").write_text(json.dumps(answer, indent=2) + "\n")
    if "rows" in answer:
        key, label = _figure_key(answer)
        points = [Point(name=row["name"], x=row["bits_per_weight"], y=row[key]) for row in answer["rows"]]
        title = f"{Path(answer['model']).resolve().name}: {windows_of_text(answer)}"
        (out / "eval.svg").write_text(scatter_svg(points, title=title, x_label="stored bits of a weight", y_label=label))


def _figure_key(answer: dict[str, Any]) -> tuple[str, str]:
    return ("bits_per_byte", "bits per byte") if "bits_per_byte" in answer else ("perplexity", "perplexity")


def _show(args: argparse.Namespace, answer: dict[str, Any]) -> None:
    key, label = _figure_key(answer)
    console.print(escape(f"{args.model}: {answer['parameters']:,} parameters, {answer['text']}"))
    if "rows" in answer:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("formats", no_wrap=True, style="cyan")
        for head in ("bits of a weight", label, "to FP32"):
            table.add_column(head, justify="right", no_wrap=True)
        for row in answer["rows"]:
            table.add_row(escape(row["name"]), f"{row['bits_per_weight']:.3f}", f"{row[key]:.4f}",
                          f"{100 * row['ratio'] - 100:+.2f} %")
        console.print(table)
    else:
        formats = ", ".join(f"{name} {answer[name]}" for name in _FORMATS if answer[name] is not None)
        exact = answer["unquantized"]
        beside = "" if exact is None or not formats else f" ({100 * answer[key] / exact - 100:+.2f} % of {exact:.4f} unquantized)"
        console.print(escape(f"{label}: {answer[key]:.4f}{beside}"))
        console.print(escape(f"{formats or 'as stored'}; {answer['bits_per_weight']:.3f} stored bits of a weight"))
    console.print(escape(f"{windows_of_text(answer)}, {answer['tokens']:,} predictions, "
                         f"{answer['seconds']:.1f} s"))
    if args.out is not None:
        console.print(escape(f"{args.out}: eval.json" + (", eval.svg" if "rows" in answer else "")), soft_wrap=True)
