"""`heddle quantize`: a checkpoint's weights in a number format, with the error of each layer."""

import argparse
import contextlib
import json
import resource
import time
from pathlib import Path
from typing import Any

from rich import box
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from flows.commands.common import add_json_argument, console, log, print_json
from hw.formats import format_named
from sw.checkpoint import Errors, Step, StoredTensor, TensorReport, Way, convert, open_checkpoint, plan_of
from sw.checkpoint.output import WEIGHTS, check_output, opened_output
from sw.checkpoint.swap import remove_leftovers
from sw.sparsity.declared import check_pruned
from sw.sparsity.patterns import density

__all__ = ["add_arguments", "run"]

_WEIGHT = ".weight"
_RSS_UNIT = 1024        # Linux counts the peak in KiB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Quantize a checkpoint tensor by tensor. Matrices of floats are quantized, along their last axis; everything else is "
        "kept as it is: norms, biases, integers, tensors with more axes, and embeddings (names such as *embed*, *wte*; give "
        "--only to quantize them). Tensors of a GGUF file in Q8_0, Q4_0 or MXFP4 are taken code by code into int8-g32, "
        "int4-g32-full or mxfp4-b32 unless --format asks for another format; its other types that are kept are decoded to "
        "float32. Memory: rows of about a million values at a time; with --axis 0 the largest tensor besides.")
    parser.add_argument("model", type=Path, metavar="MODEL",
                        help="a .safetensors file, a folder with model.safetensors or its index, or a .gguf file")
    parser.add_argument("--format", metavar="F", help="a format of `heddle formats`; may be left out for GGUF, whose tensors are "
                        "then taken as they are")
    parser.add_argument("-o", "--output", dest="out", type=Path, required=True, metavar="OUT",
                        help="a .safetensors file; or a folder, which also gets config and tokenizer of a folder MODEL")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB",
                        help="quantize the matrices, and tensors with more axes, that match, embeddings included, and no others; "
                        "may be given several times")
    parser.add_argument("--skip", action="append", default=[], metavar="GLOB",
                        help="keep the tensors that match; may be given several times")
    parser.add_argument("--axis", type=int, default=-1, choices=(-1, 0),
                        help="reduction axis, along which blocks lie: -1 for outputs × inputs, 0 for inputs × outputs as in "
                        "GPT-2 (default: %(default)s)")
    parser.add_argument("--pruned", action="store_true",
                        help="the matrices obey the pattern of a sparse F already: refuse one that breaks it, by row and block")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the JSON object to FILE too")
    parser.add_argument("--force", action="store_true", help="replace OUT; a folder keeps what the new one does not have")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Quantize, print the table of errors, and return true."""
    began = time.monotonic()
    fmt = None if args.format is None else format_named(args.format)
    steps = plan_of(open_checkpoint(args.model), fmt, only=args.only, skip=args.skip, axis=args.axis)
    remove_leftovers(args.out)
    check_output(args.out, args.model, steps, force=args.force)
    if args.report is not None:
        _check_report(args, steps)
    if args.pruned:
        if fmt is None or density(fmt) == 1:
            raise ValueError(f"--pruned must go with a sparse --format, not {args.format!r}")
        check_pruned(steps)
    formats = sorted({step.format.name for step in steps if step.format is not None})
    with opened_output(args.out, args.model, {"tool": "heddle", "formats": formats}) as weights:
        reports = _convert(steps, weights)
    answer = _answer(args, reports) | {"seconds": time.monotonic() - began, "peak_memory_bytes": _peak()}
    if args.report is not None:
        args.report.write_text(json.dumps(answer, indent=2) + "\n")
    if args.json:
        print_json(answer)
    else:
        _show(args, reports, answer)
    return True


def _check_report(args: argparse.Namespace, steps: list[Step]) -> None:
    """Refuse a report that cannot be written, or would be in place of weights."""
    report = args.report.resolve()
    if not report.parent.is_dir():
        raise ValueError(f"--report must lie in a folder that exists, not {str(args.report)!r}")
    if report.is_dir():
        raise ValueError(f"--report must be a file, not the folder {str(args.report)!r}")
    out = args.out.resolve()
    if report in {step.tensor.file.resolve() for step in steps} | {out, out / WEIGHTS, out / "config.json"}:
        raise ValueError(f"--report must be a file of its own, not {str(args.report)!r} of MODEL or OUT")


def _peak() -> int:
    """Return the most memory in bytes that this program has held; `getrusage` also counts the process that started it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * _RSS_UNIT
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _convert(steps: list[Step], weights: Path) -> list[TensorReport]:
    with Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=log,
                  transient=True, disable=not log.is_terminal) as progress:
        task = progress.add_task("", total=sum(step.tensor.size for step in steps))
        before: dict[str, int] = {}
        total = 0
        for step in steps:
            before[step.tensor.name] = total
            total += step.tensor.size

        def show(tensor: StoredTensor, done: int) -> None:
            progress.update(task, description=escape(tensor.name), completed=before[tensor.name] + done)

        return convert(steps, weights, progress=show)


def _answer(args: argparse.Namespace, reports: list[TensorReport]) -> dict[str, Any]:
    done = [report for report in reports if report.format is not None]
    kept = [report for report in reports if report.format is None]
    errors = Errors()
    for report in done:
        if report.errors is not None:
            errors.merge(report.errors)
    rounded = any(report.errors is not None for report in done)
    weights = sum(report.size for report in done)
    return {
        "out": str(args.out), "format": args.format, "tensors": [report.to_json() for report in done],
        "kept": [report.to_json() for report in kept],
        "total": {"weights": weights, "bits_per_weight": 8 * sum(report.nbytes for report in done) / weights,
                  "sqnr_db": errors.sqnr_db if rounded else None, "max_abs_error": errors.largest if rounded else None},
        "bytes_kept": sum(report.nbytes for report in kept), "bytes": sum(report.nbytes for report in reports),
    }


def _show(args: argparse.Namespace, reports: list[TensorReport], answer: dict[str, Any]) -> None:
    done = [report for report in reports if report.format is not None]
    mixed = len({report.format for report in done}) > 1
    title = f"{args.model.name} in {'several formats' if mixed else done[0].format}"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("tensor", overflow="fold")
    if mixed:
        table.add_column("format", no_wrap=True)
    for head in ("shape", "bits", "SQNR", "max error"):
        table.add_column(head, justify="right", no_wrap=True)
    for report in done:
        table.add_row(escape(report.name.removesuffix(_WEIGHT)), *([report.format] if mixed else []),
                      "×".join(map(str, report.shape)), *_cells(report.to_json(), report.errors is None))
    table.add_section()
    total = answer["total"]
    table.add_row("total", *([""] if mixed else []), f"{total['weights']:,}", *_cells(total, total["max_abs_error"] is None),
                  style="bold")
    console.print(table)
    console.print(f"names without {_WEIGHT}; bits: stored for a weight, scales included; SQNR in dB" + (
        "; –: nothing rounded" if any(report.errors is None for report in done) else ""))
    kept = len(reports) - len(done)
    decoded = sum(report.way == Way.DECODE.value for report in reports)
    console.print(f"kept: {kept} tensors, {decimal(answer['bytes_kept'])}"
                  + (f", {decoded} of them decoded to float32" if decoded else ""))
    console.print(escape(f"{args.out}: {decimal(answer['bytes'])} in {answer['seconds']:.1f} s, "
                         f"peak memory {decimal(answer['peak_memory_bytes'])}"), soft_wrap=True)


def _cells(values: dict[str, Any], exact: bool) -> tuple[str, str, str]:
    """Return bits, SQNR, largest error."""
    bits = f"{values['bits_per_weight']:.3f}"
    if exact:
        return bits, "–", "–"
    sqnr = "–" if values["sqnr_db"] is None else f"{values['sqnr_db']:.2f}"
    return bits, sqnr, f"{values['max_abs_error']:.3g}"
