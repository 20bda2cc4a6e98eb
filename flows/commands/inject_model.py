"""`heddle inject --model`: upsets in the array while it works on a language model, and what the model then writes."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.commands.common import config_from, console, log, print_json
from flows.commands.inject_tables import percent
from flows.fault.model.crosslayer import CrossLayerResult, cross_layer
from flows.fault.model.model_run import ModelRun
from hw.config import AcceleratorConfig
from sw.calibration import calibrate
from sw.models.llama import LlamaModel
from sw.models.python_text import texts
from sw.prompts import LARGEST_PROMPT

__all__ = ["add_model_arguments", "check_no_model_arguments", "run_model"]

_DEFAULTS = {"prompt": None, "tokens": 8, "tiles": 32, "effects": 64, "range_margin": None}
"""Options that only a model has; None in the arguments where they are not given, so that no run drops one without a word."""
_ELSEWHERE: dict[str, Any] = {
    **dict.fromkeys(("ci", "index", "output", "layer", "dataflow", "cells", "duration", "fit", "memory_fit")),
    "adjacent": 0, "boost": [], "workers": 1}
"""Options that a model has not, as they are where they are not given."""
_CALIBRATED_ON = 96             # prompts that bounds come from


def add_model_arguments(parser: argparse.ArgumentParser, what: Any) -> None:
    """Add --model to the group `what`, and what belongs to it."""
    what.add_argument("--model", type=Path, metavar="DIR",
                      help="a language model reads a prompt; faults hit the array in some of its tiles, and their effect on the "
                           "tokens that follow is found out")
    parser.add_argument("--prompt", metavar="TEXT",
                        help=f"with --model: up to {LARGEST_PROMPT} tokens (default: the beginning of DIR/prompt.txt)")
    parser.add_argument("--tokens", type=int, metavar="N",
                        help=f"with --model: tokens generated (default: {_DEFAULTS['tokens']})")
    parser.add_argument("--tiles", type=int, metavar="N",
                        help=f"with --model: tiles that --faults are spread over (default: {_DEFAULTS['tiles']})")
    parser.add_argument("--effects", type=int, metavar="N",
                        help="with --model: of each tile's silent corruptions, follow so many at most (default: "
                             f"{_DEFAULTS['effects']})")
    parser.add_argument("--range-margin", type=float, metavar="M",
                        help="with --model: with range restriction, bounds of M times what a text needs")


def check_no_model_arguments(args: argparse.Namespace) -> None:
    """Refuse options that only a model has."""
    for name in _DEFAULTS:
        if getattr(args, name) is not None:
            raise ValueError(f"{_option(name)} needs --model")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def run_model(args: argparse.Namespace) -> bool:
    """Inject into tiles of a model, print the table."""
    given = {name: default if getattr(args, name) is None else getattr(args, name) for name, default in _DEFAULTS.items()}
    args = argparse.Namespace(**{**vars(args), **given})
    config = config_from(args)
    for name, legal in (("kind", "seu"), ("engine", "lanes"), ("method", "uniform")):
        if getattr(args, name) != legal:
            raise ValueError(f"--{name} must be {legal} with --model, not {getattr(args, name)}")
    for name, neutral in _ELSEWHERE.items():
        if getattr(args, name) != neutral:
            raise ValueError(f"{_option(name)} cannot go with --model")
    if args.exhaustive or args.resume:
        raise ValueError(f"--{'exhaustive' if args.exhaustive else 'resume'} cannot go with --model")
    faults = 1000 if args.faults is None else args.faults
    if args.tiles < 1 or faults < args.tiles:
        raise ValueError(f"--tiles must be at least 1 and at most --faults, not {args.tiles} for {faults} faults")
    model = LlamaModel(args.model)
    prompt = model.tokenizer.encode(_prompt(args))
    if args.prompt is None:
        prompt = prompt[:LARGEST_PROMPT // 2]
    weights = model.checkpoint.weights()
    limits = None
    if args.range_margin is not None:
        limits = _limits(config, model, args.range_margin, len(prompt))
        config = replace(config, protection=(*config.protection, ("activations", "range")))
    with log.status("the run without faults"):
        run = ModelRun(config, model.config, weights, prompt, generated=args.tokens, limits=limits)
    with Progress(TextColumn("{task.completed} of {task.total} tiles"), BarColumn(), TimeElapsedColumn(), console=log,
                  transient=True, disable=not log.is_terminal) as progress:
        task = progress.add_task("tiles", total=min(args.tiles, len(run.tiles)))
        result = cross_layer(run, tiles=args.tiles, faults=faults // args.tiles, effects=args.effects, seed=args.seed,
                             glob="mesh.*" if args.sites == "*" else args.sites,
                             progress=lambda done: progress.update(task, completed=done))
    answer = {"config": config.digest(), "model": str(args.model), "prompt_tokens": len(prompt), "generated": args.tokens,
              "tokens": run.golden.tokens[0].tolist(), "bits_per_token": float(run.golden.bits[0]), "limits": limits,
              "seed": args.seed, "kind": args.kind, **result.to_json()}
    print_json(answer) if args.json else _show(args, result, answer)
    return True


def _prompt(args: argparse.Namespace) -> bytes:
    if args.prompt is not None:
        if not args.prompt:
            raise ValueError("--prompt must have at least one character, not none")
        return os.fsencode(args.prompt)
    file = args.model / "prompt.txt"
    if not file.is_file():
        raise ValueError(f"--prompt must be given: there is no {file}")
    return file.read_bytes()


def _limits(config: AcceleratorConfig, model: LlamaModel, margin: float, length: int) -> dict[str, float]:
    """Return bounds from the beginning of what the shipped model was trained on, in pieces as long as the prompt."""
    tokens = model.tokenizer.encode(texts()[0][:1 << 16])
    step = max(length, len(tokens) // _CALIBRATED_ON)
    prompts = [tokens[start:start + length] for start in range(0, len(tokens) - length, step)][:_CALIBRATED_ON]
    with log.status("bounds of activations"):
        return calibrate(config, model.config, model.checkpoint.weights(), prompts, margin=margin)


def _show(args: argparse.Namespace, result: CrossLayerResult, answer: dict[str, Any]) -> None:
    restricted = " with range restriction" if answer["limits"] else ""
    table = Table(box=box.SIMPLE_HEAD, title=escape(
        f"{args.model.name} on {args.preset or args.config.stem}{restricted}: {answer['faults']:,} upsets of the array in "
        f"{answer['tiles']} of {answer['tile_population']:,} tiles"), title_justify="left")
    for name in ("outcome", "faults", "share, 95 %"):
        table.add_column(name, justify="left" if name == "outcome" else "right")
    table.add_row("masked in the tile", f"{answer['outcomes']['masked']:,}", percent(1 - answer["sdc_rate"]))
    table.add_row("silent corruption", f"{answer['outcomes']['sdc']:,}", percent(answer["sdc_rate"], answer["ci95"]))
    table.add_section()
    critical = answer["subclasses"]["sdc"]["sdc_critical"]
    table.add_row("followed through the model", f"{answer['evaluated']:,}", "")
    table.add_row(f"other tokens among the next {answer['generated']}", f"{critical:,}",
                  percent(answer["critical_given_sdc"], answer["critical_given_sdc_ci95"]) + " of these")
    table.add_row("critical", "", percent(answer["critical_rate"], answer["critical_ci95"]), style="bold")
    console.print(table)
    change = answer["bits_per_token_change"]
    console.print(f"bits per token of the prompt: {answer['bits_per_token']:.4f}, "
                  + ("without bound" if change is None else f"{change:+.4f} on average")
                  + " with a silent corruption")
    rows = Table(box=box.SIMPLE_HEAD)
    for name in ("kernel", "tiles", "silent corruption", "critical of these"):
        rows.add_column(name, justify="left" if name == "kernel" else "right")
    for name, kernel in answer["by_kernel"].items():
        rows.add_row(escape(name), f"{kernel['tiles']:,}", percent(kernel["sdc"] / kernel["faults"]),
                     percent(kernel["critical"] / kernel["evaluated"] if kernel["evaluated"] else None))
    console.print(rows)
    console.print(f"{answer['faults_per_second'] or 0:,.0f} faults/s in RTL, {answer['model_runs_per_second'] or 0:,.0f} "
                  "corruptions/s in the model, of one processor", style="dim")
