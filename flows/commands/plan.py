"""`heddle plan`: a format for each linear of each layer of a model, by the sensitivity of its channels."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import add_config_arguments, add_json_argument, config_from, console, print_json
from hw.config import AcceleratorConfig
from sw.engines import known_weights, weight_layout
from sw.kernels.transformer.weight_plan import LINEARS
from sw.models.llama import LlamaModel
from sw.models.sensitivity import column_shares, sensitive_plan

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Choose a format for each linear of each layer of a Llama, such that the most sensitive channels of the whole model "
        "(of the largest scales) keep all bit columns, and write the plan as a file that `heddle generate --weights` takes.")
    add_config_arguments(parser)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR",
                        help="a folder with config.json and model.safetensors")
    parser.add_argument("--weights", required=True, metavar="FORMAT",
                        help="what other channels have: a format of bit columns that the config has, bbs-shift-g32 say; the "
                        "config's formats that begin with it and end in -1of2, -1of4, -1of8, and int8, are chosen from")
    parser.add_argument("--share", type=float, default=0.2, metavar="S",
                        help="share of the model's channels that are sensitive (default: %(default)s)")
    parser.add_argument("--head", default="", metavar="FORMAT", help="format of the output matrix (default: plain)")
    parser.add_argument("-o", "--output", dest="out", type=Path, required=True, metavar="FILE", help="the plan, a .json file")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Choose, write the plan, and print what was chosen."""
    config = config_from(args)
    if args.out.suffix != ".json" or not args.out.parent.is_dir():
        raise ValueError(f"-o must be a .json file in a folder that exists, not {str(args.out)!r}")
    if not 0 <= args.share <= 1:
        raise ValueError(f"--share must be between 0 and 1, not {args.share!r}")
    if args.head and args.head not in known_weights(config):
        raise ValueError(f"--head must be one of {', '.join(known_weights(config))} for this config, not {args.head!r}")
    model = LlamaModel(args.model)
    layers = (model.checkpoint.layer(number) for number in range(model.config.layers))
    plan, choices = sensitive_plan(config, layers, args.weights, args.share, args.head)
    total = sum(choice.channels * choice.inputs for choice in choices)
    stored = sum(weight_layout(config, choice.channels, choice.inputs, choice.weights).size for choice in choices)
    answer = {
        "config": config.digest(), "model": str(args.model), "weights": args.weights, "share": args.share, "plan": str(args.out),
        "kept": sum(choice.kept * choice.channels for choice in choices) / sum(choice.channels for choice in choices),
        "bits": 8 * stored / total, "choices": [asdict(choice) for choice in choices],
    }
    args.out.write_text(plan.to_json())
    if args.json:
        print_json(answer)
    else:
        _show(args, config, answer)
    return True


def _show(args: argparse.Namespace, config: AcceleratorConfig, answer: dict[str, Any]) -> None:
    table = Table(title=f"{args.share:.0%} sensitive channels of {escape(args.model.name)}", box=box.SIMPLE_HEAD,
                  title_justify="left")
    table.add_column("layer", justify="right")
    for name in LINEARS:
        table.add_column(name, justify="right")
    choices = iter(answer["choices"])
    for number, row in enumerate(zip(*[choices] * len(LINEARS), strict=True)):
        table.add_row(str(number), *(f"{choice['sensitive']}/{choice['channels']} → {choice['kept']:.4g}" for choice in row))
    console.print(table)
    at_hand = ", ".join(f"{share:.4g}" for share, _ in column_shares(config, args.weights))
    console.print("sensitive channels / all of a linear → share that keeps all columns, of those that the config's formats have: "
                  f"{at_hand}")
    console.print(f"{answer['kept']:.1%} of the channels keep all columns; {answer['bits']:.2f} bits a weight in memory")
    console.print(f"plan: {escape(str(args.out))}")
