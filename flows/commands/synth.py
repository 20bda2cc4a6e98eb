"""`heddle synth`: an accelerator, a channel of a PIM or single blocks, synthesized for an FPGA or in standard cells."""

import argparse
from types import ModuleType

from flows.commands.common import (
    add_config_arguments,
    add_json_argument,
    check_output_folder,
    config_from,
    console,
    log,
    output_folder,
    print_json,
)
from flows.commands.pim_config import ARRAY_OR_PIM, pim_config_from
from flows.emit import emit
from flows.pim.emit import emit_pim
from flows.synth import TARGETS, target_named
from hw.config import AcceleratorConfig
from hw.pim.config import PimConfig

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments, and those of every target."""
    add_config_arguments(parser)
    parser.add_argument("--target", required=True, metavar="TARGET", help=f"one of {', '.join(TARGETS)}")
    parser.add_argument("--block", action="append", default=[], metavar="NAME",
                        help="a module of the design, instead of the whole; may be given several times")
    parser.add_argument("-o", "--output", type=output_folder, metavar="DIR",
                        help="folder for netlist and results; made if missing")
    add_json_argument(parser)
    for module_name in dict.fromkeys(TARGETS.values()):
        names = [name for name in TARGETS if TARGETS[name] == module_name]
        module = target_named(names[0])
        module.add_arguments(parser.add_argument_group(f"target {', '.join(names)}", module.DOC))


def _refuse_options_of_others(args: argparse.Namespace) -> None:
    """Refuse what another target would heed and this one would not."""
    for module_name in dict.fromkeys(TARGETS.values()):
        names = [name for name in TARGETS if TARGETS[name] == module_name]
        if args.target in names:
            continue
        parser = argparse.ArgumentParser(add_help=False)
        target_named(names[0]).add_arguments(parser.add_argument_group())
        for option, default in vars(parser.parse_args([])).items():
            if getattr(args, option) != default:
                raise ValueError(f"--{option.replace('_', '-')} must go with --target {' or '.join(names)}, not {args.target}")


def _verilog(config: AcceleratorConfig | PimConfig, args: argparse.Namespace, target: ModuleType) -> tuple[str, list[str]]:
    """Return the Verilog, and the modules of it that are synthesized."""
    if isinstance(config, PimConfig):
        with log.status("emission"):
            emission = emit_pim(config)
        return emission.verilog, args.block or [emission.top]
    if args.block:
        return emit(config).verilog, args.block
    verilog, top = target.whole(config, args)
    return verilog, [top]


def run(args: argparse.Namespace) -> bool:
    """Synthesize and print areas, or one JSON object; with several blocks, `blocks`: name → object."""
    target = target_named(args.target)
    pim = pim_config_from(args)
    config: AcceleratorConfig | PimConfig = config_from(args, legal=ARRAY_OR_PIM) if pim is None else pim
    _refuse_options_of_others(args)
    target.check(args)
    if pim is not None:
        target.check_bare(args)
    if args.output is not None:
        check_output_folder(args.output, "-o")
    verilog, tops = _verilog(config, args, target)
    answers = {}
    for top in tops:
        with log.status(f"{args.target}: {top}"):
            directory = args.output / top if args.output is not None and len(args.block) > 1 else args.output
            answers[top] = {"config": config.digest(), **target.run(verilog, top, args, directory)}
    if args.json:
        print_json({"target": args.target, "config": config.digest(), "blocks": answers} if len(answers) > 1 else
                   next(iter(answers.values())))
        return True
    for answer in answers.values():
        target.show(answer, console)
    return True
