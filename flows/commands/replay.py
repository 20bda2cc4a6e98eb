"""`heddle replay`: run a saved case on golden device and RTL; name the first mismatch, and what the program leaves to timing."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from flows.commands.common import add_json_argument, check_waves_file, console, print_json
from flows.native_sim import MemoryTiming
from flows.rtl_device import RtlDevice
from sw.hazards import find_hazards
from sw.replay import ReplayCase, compare, load_case, replay

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("case", type=Path, metavar="CASE", help="a replay case, as a failing run or test saves it")
    parser.add_argument("--waves", type=Path, metavar="FILE", help="write waves to FILE, .vcd or .fst")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Run both, print the first difference, and return whether there is none."""
    case = load_case(args.case)
    if args.waves is not None:
        check_waves_file(args.waves)
    golden = replay(case)
    device = RtlDevice(case.config, timing=_timing(case), waves=args.waves)
    session = device.open(len(case.memory))
    session.sim.log_writes()
    rtl = replay(case, session)
    mismatch = compare(case, golden, rtl.memory, session.sim.written())
    session.close()
    ends = {"golden": str(golden.error) if golden.error else None, "rtl": str(rtl.error) if rtl.error else None}
    same_end = (golden.error is None) == (rtl.error is None) and (
        golden.error is None or rtl.error is None or (golden.error.cause, golden.error.pc) == (rtl.error.cause, rtl.error.pc))
    answer: dict[str, Any] = {"match": mismatch is None and same_end, "note": case.note, "cycles": rtl.cycles, "errors": ends}
    if mismatch is not None:
        answer |= asdict(mismatch)
    if golden.error is None:
        answer["races"] = [str(hazard) for hazard in find_hazards(case.config, case.program, case.args)]
    if args.json:
        print_json(answer)
    else:
        _show(answer)
    return bool(answer["match"])


def _timing(case: ReplayCase) -> MemoryTiming:
    """Return the memory behaviour under which the case was saved."""
    try:
        return MemoryTiming(**case.timing)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"the case's timing must have fields of MemoryTiming, not {', '.join(case.timing)}") from None


def _show(answer: dict[str, Any]) -> None:
    verdict = "[green]bit-exact[/]" if answer["match"] else "[red]differs[/]"
    table = Table(title=f"{escape(answer['note'] or 'replay')}: {verdict}", show_header=False, title_justify="left")
    for race in answer.pop("races", []):
        table.add_row("race", escape(race))
    for name, value in answer.items():
        if name not in ("match", "note") and value not in (None, {}, {"golden": None, "rtl": None}):
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else f"{value:,}"
            table.add_row(name, escape(text))
    console.print(table)
