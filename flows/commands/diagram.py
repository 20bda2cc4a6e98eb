"""`heddle diagram`: a block diagram of a config, from its hierarchy."""

import argparse
from pathlib import Path

from flows.commands.common import add_config_arguments, add_json_argument, config_from, console, print_json
from flows.commands.pim_config import ARRAY_OR_PIM, pim_config_from
from flows.emit import Emission, emit
from flows.pim.emit import PimEmission, emit_pim
from flows.view.diagram import block_diagram
from flows.view.pim_diagram import pim_block_diagram
from hw.config import AcceleratorConfig
from hw.pim.config import PimConfig

__all__ = ["add_arguments", "check_svg_file", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_config_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the drawing, .svg")
    add_json_argument(parser)


def check_svg_file(file: Path) -> None:
    """Refuse a file that cannot be written, before anything is generated."""
    if file.suffix != ".svg":
        raise ValueError(f"-o must be a file .svg, not {str(file)!r}")
    if not file.parent.is_dir():
        raise ValueError(f"-o must lie in a folder that exists, not {str(file)!r}")
    if file.is_dir():
        raise ValueError(f"-o must be a file, not the folder {str(file)!r}")


def run(args: argparse.Namespace) -> bool:
    """Write the drawing and say where it is."""
    pim = pim_config_from(args)
    config: AcceleratorConfig | PimConfig = config_from(args, legal=ARRAY_OR_PIM) if pim is None else pim
    check_svg_file(args.output)
    name = args.preset or args.config.stem
    emission: Emission | PimEmission
    if isinstance(config, PimConfig):
        emission = emit_pim(config)
        text = pim_block_diagram(config, emission.manifest, name)
    else:
        emission = emit(config)
        text = block_diagram(config, emission.manifest, name)
    args.output.write_text(text)
    children = emission.manifest["hierarchy"][emission.top]
    answer = {"digest": config.digest(), "top": emission.top, "file": str(args.output), "bytes": len(text.encode()),
              "blocks": children, "modules": len(emission.manifest["modules"])}
    if args.json:
        print_json(answer)
    else:
        console.print(f"{args.output}: {len(children)} blocks of {answer['modules']} modules", markup=False, soft_wrap=True)
    return True
