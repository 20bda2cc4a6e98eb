"""`heddle harden`: the least area that meets a target, found by injection, chosen exactly, injected into again."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.markup import escape

from flows.cache import cache_root, key_of
from flows.commands.common import (
    add_config_arguments,
    add_json_argument,
    check_output_folder,
    config_from,
    console,
    log,
    print_json,
)
from flows.commands.inject import (
    add_fault_arguments,
    add_work_arguments,
    check_libraries,
    check_workers,
    run_campaign,
    run_from,
    upset_rates,
)
from flows.commands.inject_tables import fault_table, percent
from flows.emit import emit
from flows.fault.campaign.job import Job, open_job
from flows.fault.campaign.plan import Plan
from flows.fault.campaign.results import Results
from flows.fault.campaign.store import write_whole
from flows.fault.figures.iso26262 import Rates
from flows.fault.figures.statistics import Interval
from flows.fault.hardening.knapsack import greedy_order
from flows.fault.hardening.protection import mesh_extra
from flows.fault.hardening.selection import Selection, groups_of, predicted, rules_for, select, vulnerable
from flows.fault.reports.harden_report import harden_page
from flows.fault.targets.workloads import program_target
from flows.synth.asic import STAGE, synthesize
from flows.synth.options import AsicOptions
from hw.config import AcceleratorConfig
from hw.protect.domains import BLOCK_DOMAINS, NONE, REGISTER_MECHANISMS, Rules
from hw.protect.inventory import registers_of
from hw.top import Accelerator

__all__ = ["CONFIG_FILE", "add_arguments", "run"]

CONFIG_FILE, RESULT_FILE, REPORT_FILE = "hardened.json", "result.json", "report.html"
_MEMORIES = ("scratchpad", "accumulator", "fifos")
_MESH = "engine.mesh"
_MESHES = (NONE, *BLOCK_DOMAINS[_MESH])
_SHOWN, _CURVE_POINTS = 15, 120
_Campaign = tuple[dict[str, Any], Job, Results]
_FLOOR = 400
"""Least faults of a register group, or all that there are: fewer say too little of what it does."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_config_arguments(parser)
    add_work_arguments(parser)
    parser.add_argument("--spfm", type=float, default=0.99, metavar="P",
                        help="single-point fault metric to reach over the flip-flops (default: 0.99, that of ASIL D)")
    parser.add_argument("--slack", type=float, default=0.2, metavar="P",
                        help="share of the faults that may be left which is held back (default: %(default)s)")
    parser.add_argument("--mechanisms", default=",".join(REGISTER_MECHANISMS), metavar="LIST",
                        help="what registers may get (default: %(default)s)")
    parser.add_argument("--memories", choices=("none", "parity", "secded"), default="secded",
                        help="what memories get; stated apart (default: %(default)s)")
    parser.add_argument("--mesh", choices=("auto", *_MESHES), default="auto",
                        help="how the array checks itself; auto: abft (of a systolic array) or not, whichever costs less "
                             "(default: %(default)s)")
    parser.add_argument("--faults", type=int, default=100_000, metavar="N",
                        help="of each campaign, at least (default: %(default)s); each register group gets 400 or more")
    parser.add_argument("--no-synthesis", action="store_true",
                        help="do not synthesize: areas that the data of banks say, no shares")
    add_fault_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Inject, choose, inject again; return whether the target holds and the prediction was right."""
    config = config_from(args)
    rates = upset_rates(args)
    mechanisms = _checked(args, config)
    plan = Plan(method="stratified", seed=args.seed)
    work = args.gemm or f"{args.workload} {args.layer}"
    folder = args.output or cache_root() / "hardened" / key_of(config.to_json(), work, plan.to_json(), args.faults)
    check_output_folder(folder, "-o")
    check_libraries()

    memories: Rules = tuple((domain, args.memories) for domain in _MEMORIES if args.memories in BLOCK_DOMAINS[domain])
    found = {"before": _campaign(args, config, plan, rates, folder / "before")}
    tried = _tried(args, config, plan, rates, folder, memories, found["before"], mechanisms)
    mesh, found["base"], selection = min(tried, key=lambda choice: choice[2].area + _mesh_area(choice[0], config))
    base: Rules = (*memories, *(((_MESH, mesh),) if mesh != NONE else ()))
    domains = _domains(dataclasses.replace(config, protection=base))
    results = found["base"][2]
    rules = rules_for(selection, domains, base)
    hardened = dataclasses.replace(config, protection=rules)
    write_whole(folder / CONFIG_FILE, hardened.to_json() + "\n")
    found["after"] = _campaign(args, hardened, plan, rates, folder / "after")

    configs = {"before": config, "memories": dataclasses.replace(config, protection=memories), "after": hardened}
    areas = {} if args.no_synthesis else {name: _area(which) for name, which in configs.items()}
    figures = {name: answer for name, (answer, _, _) in found.items()}
    answer = _answer(selection, predicted(results, selection, rates), figures, areas, spfm=args.spfm,
                     mesh_area=_mesh_area(mesh, config))
    answer |= {"preset": args.preset or str(args.config), "mesh": mesh,
               "digests": {name: which.digest() for name, which in configs.items()}, "protection": [list(rule) for rule in rules],
               "unprotectable": _unprotectable(selection),
               "files": [str(folder / name) for name in (CONFIG_FILE, RESULT_FILE, REPORT_FILE)]}
    write_whole(folder / REPORT_FILE, harden_page(answer, title=f"{figures['before']['target']} on {answer['preset']}, hardened"))
    write_whole(folder / RESULT_FILE, json.dumps(answer, indent=2) + "\n")
    print_json(answer) if args.json else _show(answer)
    return bool(answer["target_met"] and answer["agrees"])


def _mesh_area(mesh: str, config: AcceleratorConfig) -> float:
    """Return what checks of the array add, in NAND2 equivalents."""
    return mesh_extra(mesh, config.rows, config.columns) if mesh != NONE else 0.0


def _domains(config: AcceleratorConfig) -> dict[str, int]:
    """Return register domain → bits."""
    return {register.path: register.bits for register in registers_of(Accelerator(config))}


def _tried(args: argparse.Namespace, config: AcceleratorConfig, plan: Plan, rates: Rates, folder: Path, memories: Rules,
           before: _Campaign, mechanisms: tuple[str, ...]) -> list[tuple[str, _Campaign, Selection]]:
    """Return each way in which the array can check itself that reaches the target: its campaign, and the cheapest choice then.

    Raises
    ------
    ValueError
        If none does.
    """
    found, refused = [], []
    automatic = (NONE, "abft") if config.engine == "systolic" else (NONE,)      # others cannot check themselves
    for mesh in automatic if args.mesh == "auto" else (args.mesh,):
        base: Rules = (*memories, *(((_MESH, mesh),) if mesh != NONE else ()))
        guarded = dataclasses.replace(config, protection=base)
        name = "base" if mesh == NONE else f"base-{mesh}"
        campaign = _campaign(args, guarded, plan, rates, folder / name) if base else before
        _, job, results = campaign
        groups = groups_of(job.words, _domains(guarded))
        try:
            selection = select(groups, vulnerable(results, groups), rates, spfm=args.spfm, slack=args.slack,
                               mechanisms=mechanisms)
        except ValueError as error:
            refused.append(error)
            continue
        found.append((mesh, campaign, selection))
    if not found:
        raise refused[0]
    return found


def _checked(args: argparse.Namespace, config: AcceleratorConfig) -> tuple[str, ...]:
    """Return the mechanisms to choose from, after checks that need nothing built."""
    mechanisms = tuple(args.mechanisms.split(","))
    for name in mechanisms:
        if name not in REGISTER_MECHANISMS:
            raise ValueError(f"--mechanisms must be some of {', '.join(REGISTER_MECHANISMS)}, not {name!r}")
    if args.faults < 1:
        raise ValueError(f"--faults must be at least 1, not {args.faults}")
    check_workers(args.workers)
    for name in ("spfm", "slack"):
        if not 0 <= getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 0 and less than 1, not {getattr(args, name)!r}")
    if config.protection:
        raise ValueError(f"harden needs a config without protection, not one with {len(config.protection)} rules of it")
    return mechanisms


def _campaign(args: argparse.Namespace, config: AcceleratorConfig, plan: Plan, rates: Rates,
              folder: Path) -> _Campaign:
    """Run one campaign in a folder of its own."""
    with log.status(f"simulator: {folder.name}"):
        work = run_from(args, config)
        job = open_job(program_target(config, work.program, work.memory, work.args), plan, engine=args.engine, glob=args.sites,
                       by_group=True)
    mine = argparse.Namespace(**{**vars(args), "output": folder, "resume": args.resume and (folder / "campaign.json").exists()})
    folder.mkdir(parents=True, exist_ok=True)
    answer, results = run_campaign(mine, job, rates, faults=args.faults, replace=args.output is None, floor=_FLOOR)
    return answer, job, results


def _area(config: AcceleratorConfig) -> dict[str, float]:
    """Return areas in NAND2 equivalents, and flip-flops, of a config."""
    with log.status("synthesis"):
        result = synthesize(emit(config).verilog, options=AsicOptions(timing=False))
    return {name: float(result[name]) for name in ("area", "memory_area", "flip_flops")}


def _unprotectable(selection: Selection) -> dict[str, float]:
    """Return bits and FIT of flip-flops that have no domain."""
    left = [(sum(group.bits), options[0].residual)
            for group, options in zip(selection.groups, selection.options, strict=True) if not group.domains]
    return {"bits": sum(bits for bits, _ in left), "fit": sum(fit for _, fit in left)}


def _answer(selection: Selection, promise: tuple[float, Interval], figures: dict[str, dict[str, Any]],
            areas: dict[str, dict[str, float]], *, spfm: float, mesh_area: float) -> dict[str, Any]:
    """Return all that was found as plain JSON types."""
    fit, interval = promise
    logic = {name: answer["iso26262"]["logic"] for name, answer in figures.items()}
    left = logic["after"]["residual_fit"]
    low, high = logic["after"]["residual_fit_ci95"]
    of_before = 1 - left / logic["before"]["fit"]
    base = areas["before"]["area"] if areas else None           # of the unprotected design, which no code has made larger
    places = range(0, len(selection.curve.areas), max(1, len(selection.curve.areas) // _CURVE_POINTS))
    area = selection.area + mesh_area
    curve = [{"area": float(selection.curve.areas[i]) + mesh_area, "fit": float(selection.curve.residuals[i]),
              "spfm": 1 - float(selection.curve.residuals[i]) / selection.fit} for i in (*places, selection.place)]
    groups = [{"group": group.name, "mechanism": option.name, "bits": sum(group.bits), "area": option.area,
               "fit": options[0].residual, "left": option.residual}
              for group, option, options in zip(selection.groups, selection.chosen, selection.options, strict=True)]
    order = [{"group": selection.groups[index].name, "mechanism": selection.options[index][option].name, "fit_per_area": gain}
             for index, option, gain in greedy_order(selection.options)]
    return {
        "target_spfm": spfm, "spfm": logic["after"]["spfm"], "spfm_low": logic["after"]["spfm_low"],
        "spfm_of_original_bits": of_before, "target_met": of_before >= spfm,
        "predicted_fit": fit, "predicted_fit_ci95": list(interval), "measured_fit": left, "measured_fit_ci95": [low, high],
        "agrees": interval.low <= high and low <= interval.high,
        "predicted_area": area, "predicted_overhead": area / base if base else None,
        "measured_overhead": (areas["after"]["area"] - areas["memories"]["area"]) / base if base else None,
        "memory_overhead": {name: areas["memories"][name] - areas["before"][name] for name in ("area", "memory_area")} if areas
        else None,
        "areas": areas, "area_stage": STAGE, "groups": groups, "greedy": order, "curve": sorted(curve, key=lambda p: p["area"]),
        **{name: _side(answer) for name, answer in figures.items()},
    }


def _side(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what is compared of a campaign."""
    keys = ("faults", "masked_by_analysis", "outcomes", "subclasses", "sdc_rate", "ci95", "dangerous_rate", "dangerous_ci95",
            "golden_cycles", "total", "detection_latency", "target", "folder", "by_storage")
    return {**{key: answer[key] for key in keys}, **{part: answer["iso26262"][part] for part in ("logic", "memory")}}


def _show(answer: dict[str, Any]) -> None:
    table = fault_table(escape(f"{answer['before']['target']} on {answer['preset']}"), "", "before", "after")
    sides = (answer["before"], answer["after"])
    table.add_row("silent corruption, all upsets", *(percent(side["sdc_rate"], side["ci95"]) for side in sides))
    for name, key in (("detected", "detected"), ("corrected", "corrected"), ("hang", "hang")):
        table.add_row(name, *(percent(side["total"]["avf"][key]) for side in sides))
    for part, words in (("logic", "flip-flops"), ("memory", "memories")):
        if all(side[part] for side in sides):
            table.add_row(f"{words}: residual FIT",
                          *(f"{side[part]['residual_fit']:.4g} [{side[part]['residual_fit_ci95'][0]:.3g}, "
                                                      f"{side[part]['residual_fit_ci95'][1]:.3g}]" for side in sides))
            table.add_row(f"{words}: SPFM", *(f"{side[part]['spfm']:.3%}" for side in sides))
    table.add_row("cycles", *(f"{side['golden_cycles']:,}" for side in sides))
    for name, words in (("area", "logic, NAND2"), ("memory_area", "memory macros, NAND2"), ("flip_flops", "flip-flops")):
        if answer["areas"]:
            table.add_row(words, *(f"{answer['areas'][which][name]:,.0f}" for which in ("before", "after")))
    console.print(table)
    chosen = [group for group in answer["groups"] if group["mechanism"] != NONE]
    table = fault_table(f"{len(chosen)} of {len(answer['groups'])} register groups are protected", "register group", "mechanism",
                        "bits", "FIT", "NAND2")
    for group in sorted(chosen, key=lambda group: -group["fit"])[:_SHOWN]:
        table.add_row(escape(group["group"]), group["mechanism"], f"{group['bits']:,}", f"{group['fit']:.3g}",
                      f"{group['area']:,.0f}")
    console.print(table if chosen else "no register group is protected: the target holds without")
    if answer["mesh"] != NONE:
        console.print(f"the array checks itself: {answer['mesh']}")
    low, high = answer["predicted_fit_ci95"]
    mlow, mhigh = answer["measured_fit_ci95"]
    console.print(f"flip-flops: predicted {answer['predicted_fit']:.3g} FIT [{low:.3g}, {high:.3g}], injected again "
                  f"{answer['measured_fit']:.3g} [{mlow:.3g}, {mhigh:.3g}]: "
                  f"{'they agree' if answer['agrees'] else 'THEY DIFFER'}")
    console.print(f"SPFM {answer['spfm']:.3%}, of the bits of the unprotected design {answer['spfm_of_original_bits']:.3%}; "
                  f"target {answer['target_spfm']:.2%} {'met' if answer['target_met'] else 'MISSED'}")
    if answer["areas"]:
        console.print(f"area: {answer['measured_overhead']:+.1%} of the logic (predicted {answer['predicted_overhead']:+.1%}); "
                      f"memories and their codes: {answer['memory_overhead']['memory_area']:+,.0f} NAND2 of macros, "
                      f"{answer['memory_overhead']['area']:+,.0f} of logic; {STAGE}")
    else:
        console.print(f"area: predicted {answer['predicted_area']:+,.0f} NAND2")
    if answer["unprotectable"]["bits"]:
        bare = answer["unprotectable"]
        console.print(f"{bare['bits']:,} flip-flop bits have no domain: {bare['fit']:.3g} FIT")
    for file in answer["files"]:
        console.print(file, markup=False, soft_wrap=True)
