"""`heddle sparsity`: quality of a model against the density of its weights, as a table and a plot."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import (
    add_json_argument,
    check_output_folder,
    config_from,
    console,
    log,
    print_json,
    windows_of_text,
)
from flows.sparsity import FORMATS, Point, SparsityError, planned_point, points, tasder_point, texts
from flows.view.density import Dot, density_plot
from hw.config import AcceleratorConfig
from hw.families import OutlierFormat, SeriesFormat, SparseFormat
from hw.formats import format_named
from sw.evaluate import Windows
from sw.models.llama import LlamaModel
from sw.models.llama_config import ModelError
from sw.sparsity.pruning import METHODS, prune
from sw.sparsity.saving import check_pruned_output, save_pruned
from sw.sparsity.tasder import engine_series

__all__ = ["add_arguments", "run"]

_DEFAULT_METHODS = ("magnitude", "compensated")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Put a Llama's weights in sparse formats and measure how well it predicts the held-out files of Python's own library, "
        "without training it again. What needs text to decide by gets some of the files that are not held out.")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR",
                        help="a folder with config.json and model.safetensors")
    parser.add_argument("--weights", action="append", metavar="F", dest="formats",
                        help="a format of `heddle formats`; may be given several times (default: patterns of all densities, "
                        "series, SDQ)")
    parser.add_argument("--method", action="append", choices=tuple(METHODS), dest="methods",
                        help="how patterns are pruned; may be given several times (default: magnitude and compensated)")
    parser.add_argument("--tasder", action="append", type=float, default=[], metavar="Q",
                        help="also choose for each matrix the cheapest series, such that the model keeps this quality, 0.99 say; "
                        "takes some fifty evaluations; may be given several times")
    parser.add_argument("--preset", metavar="PRESET",
                        help="with --tasder and -o: choose for each linear from what this preset's engine runs, by its time, and "
                        "write plan-Q.json, which `heddle generate PRESET --weights` takes")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the same of a JSON file with the fields of a config")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
                        help="change one field of it; may be given several times")
    parser.add_argument("--windows", default=50, type=_count, metavar="N", help="windows of held-out text (default: %(default)s)")
    parser.add_argument("--calibration", default=32, type=_count, metavar="N",
                        help="windows of text to decide by (default: %(default)s)")
    parser.add_argument("-o", "--output", dest="out", type=Path, metavar="DIR", help="write sparsity.json and sparsity.svg")
    parser.add_argument("--save", type=Path, metavar="FOLDER",
                        help="write the pruned model, unrounded: with one pattern and one method; `heddle quantize --pruned` and "
                        "`heddle generate` take it")
    add_json_argument(parser)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> bool:
    """Measure, print the table, and return true."""
    formats = args.formats or list(FORMATS)
    for name in formats:
        format_named(name)
    for quality in args.tasder:
        if not 0 < quality < 1:
            raise ValueError(f"--tasder must be between 0 and 1, not {quality}")
    config = _checked_config(args)
    if args.out is not None:
        check_output_folder(args.out, "-o")
    save = _checked_save(args, formats)
    model = LlamaModel(args.model)
    if model.checkpoint.quantized:
        raise ModelError(f"{args.model} must hold weights as floats, but they are quantized")
    windows, calibration = texts(model, args.windows, args.calibration)
    found, plans, unreached = [], [], []
    with log.status("sparsity") as status:
        for point in points(model.checkpoint, formats, args.methods or _DEFAULT_METHODS, windows, calibration):
            found.append(point)
            status.update(escape(_label(point)))
        for quality in args.tasder:
            status.update(f"TASDER {quality}")
            try:
                if config is None:
                    found.append(tasder_point(model.checkpoint, quality, windows, calibration))
                else:
                    point, plan = planned_point(model.checkpoint, config, quality, windows, calibration)
                    found.append(point)
                    plans.append(f"plan-{quality}.json")
                    (args.out / plans[-1]).write_text(plan.to_json())
            except SparsityError as error:          # what has been measured is shown first
                unreached.append((quality, str(error)))
        if save is not None:
            matrices = prune(model.checkpoint, save, args.methods[0], calibration.tokens[:, :-1])
            save_pruned(args.model, args.save, matrices, {"tool": "heddle", "pruned": save.name, "method": args.methods[0]})
    answer = _answer(args, model, windows, calibration, found)
    if args.out is not None:
        _write(args.out, answer)
    if args.json:
        print_json(answer)
    else:
        _show(args, answer, plans)
    if unreached:
        raise SparsityError("; ".join(f"--tasder {quality}: {why}" for quality, why in unreached))
    return True


def _checked_config(args: argparse.Namespace) -> AcceleratorConfig | None:
    """Return the config whose engine's formats are chosen from, if one is named."""
    if args.preset is None and args.config is None and not args.changes:
        return None
    if not args.tasder or args.out is None:
        raise ValueError("--preset must go with --tasder Q and -o DIR: it says from what to choose, for a plan")
    config = config_from(args)
    engine_series(config)
    return config


def _checked_save(args: argparse.Namespace, formats: list[str]) -> SparseFormat | None:
    """Return the pattern of the model that is to be saved, if one is."""
    if args.save is None:
        return None
    fmt = format_named(formats[0])
    if len(formats) > 1 or not isinstance(fmt, SparseFormat) or len(args.methods or ()) != 1:
        raise ValueError("--save must go with one --weights, a pattern such as 2:4, and one --method")
    check_pruned_output(args.model, args.save)
    return fmt


def _label(point: Point) -> str:
    return point.name if point.method == "magnitude" else f"{point.name}, {point.method}"


def _answer(args: argparse.Namespace, model: LlamaModel, windows: Windows, calibration: Windows,
            found: list[Point]) -> dict[str, Any]:
    key = "bits_per_byte" if model.tokenizer.by_bytes else "perplexity"
    rows = []
    for point in found:
        fields = asdict(point)
        bits = fields.pop("bits")
        if not point.series:
            del fields["series"]
        figures = {key: bits if model.tokenizer.by_bytes else 2.0**bits, "quality": found[0].bits / bits}
        rows.append({"label": _label(point), **fields, **figures})
    return {"model": str(args.model), "parameters": model.checkpoint.parameters, "windows": len(windows.tokens),
            "calibration": len(calibration.tokens), "context": windows.tokens.shape[1] - 1, "tokens": windows.counted,
            "rows": rows}


def _figure_key(answer: dict[str, Any]) -> tuple[str, str]:
    return ("bits_per_byte", "bits per byte") if "bits_per_byte" in answer["rows"][0] else ("perplexity", "perplexity")


def _write(out: Path, answer: dict[str, Any]) -> None:
    (out / "sparsity.json").write_text(json.dumps(answer, indent=2) + "\n")
    key, label = _figure_key(answer)
    kinds: dict[str, list[Dot]] = {}
    for row in answer["rows"]:
        kinds.setdefault(_kind(row), []).append(Dot(name=row["name"], density=row["density"], figure=row[key]))
    title = f"{Path(answer['model']).resolve().name}: {windows_of_text(answer)}"
    (out / "sparsity.svg").write_text(density_plot(kinds, title=title, y_label=label).to_text())


def _kind(row: dict[str, Any]) -> str:
    """Return under which heading a row is drawn."""
    name = row["name"]
    if "series" in row:
        return "series for each matrix"
    fmt = None if name == "float32" else format_named(name)
    if isinstance(fmt, SparseFormat):
        return f"patterns, {row['method']}"
    if isinstance(fmt, OutlierFormat):
        return "int8 outliers, FP4 inliers"
    return "series" if isinstance(fmt, SeriesFormat) else "dense"


def _show(args: argparse.Namespace, answer: dict[str, Any], plans: list[str]) -> None:
    key, label = _figure_key(answer)
    console.print(escape(f"{args.model}: {answer['parameters']:,} parameters, held-out files of Python's library"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("weights", no_wrap=True, style="cyan")
    for head in ("density", "stored bits", label, "change"):
        table.add_column(head, justify="right", no_wrap=True)
    exact = answer["rows"][0][key]
    for row in answer["rows"]:
        table.add_row(escape(row["label"]), f"{row['density']:.4f}", f"{row['bits_per_weight']:.3f}", f"{row[key]:.4f}",
                      f"{100 * (row[key] / exact - 1):+.2f} %")
    console.print(table)
    for row in answer["rows"]:
        if "series" in row:
            counts = {name: list(row["series"].values()).count(name) for name in dict.fromkeys(row["series"].values())}
            console.print(escape(f"{row['label']}: " + ", ".join(f"{name} ×{count}" for name, count in sorted(counts.items()))))
    console.print(escape(f"{windows_of_text(answer)}, {answer['tokens']:,} predictions"))
    if args.out is not None:
        console.print(escape(f"{args.out}: {', '.join(['sparsity.json', 'sparsity.svg', *plans])}"), soft_wrap=True)
    if args.save is not None:
        console.print(escape(f"{args.save}: the pruned model"), soft_wrap=True)
