"""One HTML file that shows timelines: summary, plots, and a canvas to zoom and pan in; it needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from flows.view.svg import Svg, css
from flows.view.timeline import SEQUENCER_STATES, Timeline

__all__ = ["trace_page"]

_HERE = Path(__file__).parent


def trace_page(timelines: Sequence[Timeline], *, title: str, facts: Mapping[str, str], plots: Sequence[Sequence[Svg]],
               legend: Sequence[tuple[str, float, str]] = ()) -> str:
    """Return the page.

    Parameters
    ----------
    timelines : sequence of Timeline
    title : str
    facts : mapping of str to str
        What stands in the head, by name.
    plots : sequence of sequences of Svg
        Those of one sequence below each other, sequences side by side.
    legend : sequence of (str, float, str)
        Colours, opacities and what they mean, instead of what holds for an accelerator.
    """
    data = {"legend": [list(entry) for entry in legend], "states": SEQUENCER_STATES,
            "runs": [_run(timeline) for timeline in timelines]}
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
    head = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    drawings = "".join(f'<figure class="card">{"".join(plot.to_text(inline=True) for plot in group)}</figure>'
                       for group in plots)
    page = (_HERE / "page.html").read_text()
    for mark, value in (("TITLE", escape(title)), ("COLORS", css(":root")), ("FACTS", head), ("PLOTS", drawings),
                        ("SCRIPT", (_HERE / "page.js").read_text()), ("DATA", text)):
        page = page.replace(f"@@{mark}@@", value)
    return page


def _run(timeline: Timeline) -> dict[str, Any]:
    units = {}
    for name, unit in timeline.units.items():
        units[name] = {
            "commands": [[c.what, c.kernel, c.pc, c.queued, c.taken, c.done, c.wait, c.signal, c.fields] for c in unit.commands],
            "busy": [[s.first, s.end, s.index] for s in unit.busy],
            "waits": [[s.first, s.end, s.index, s.why] for s in unit.waits],
            "activity": _steps(unit.active),
            "depth": [list(point) for point in unit.depth],
        }
    return {"colors": timeline.colors, "lanes": {name: [[s.first, s.end, s.state] for s in spans]
                                                 for name, spans in timeline.lanes.items()},
            "name": timeline.name, "cycles": timeline.cycles, "units": units, "summary": timeline.summary(),
            "waits": [[w.unit, w.index, w.first, w.cycles, [f"s{s}" for s in w.semaphores], w.cause]
                      for w in timeline.longest_waits(8)],
            "sequencer": [[s.first, s.end, SEQUENCER_STATES.index(s.state), s.index, s.why] for s in timeline.sequencer],
            "fetch": [[s.first, s.end, s.state] for s in timeline.fetch]}


def _steps(active: list[tuple[int, int]]) -> list[int]:
    """Return intervals as cycles that are not active, cycles that are, and so on from cycle 0: every cycle in few bytes."""
    steps, last = [], 0
    for first, end in active:
        steps += [first - last, end - first]
        last = end
    return steps
