"""Timelines as a trace of the Chrome format, which ui.perfetto.dev opens: one microsecond there is one cycle here."""

from collections.abc import Sequence
from typing import Any

from flows.view.timeline import Timeline

__all__ = ["perfetto_trace"]

_TRACKS = ("sequencer", "fetch")


def perfetto_trace(timelines: Sequence[Timeline], name: str) -> dict[str, Any]:
    """Return the trace as plain JSON types.

    Each run is a process; each unit a thread of commands, each queue a thread of its head's waits, with a counter of its depth.

    Parameters
    ----------
    timelines : sequence of Timeline
        Runs in order; each begins where the one before ends.
    name : str
        Of the whole trace.
    """
    events: list[dict[str, Any]] = []
    start = 0
    for pid, timeline in enumerate(timelines, 1):
        events.append({"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": timeline.name}})
        tracks: list[str] = [*_TRACKS] if timeline.sequencer else []
        before = len(tracks)
        for unit_name in timeline.units:
            tracks += [f"{unit_name} queue", unit_name]
        tracks += timeline.lanes
        for tid, track in enumerate(tracks, 1):
            events.append({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": track}})
            events.append({"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}})
        for tid, spans in ((1, timeline.sequencer), (2, timeline.fetch)):
            for span in spans:
                details = {"instruction": span.index, "for": span.why} if tid == 1 else {}
                events.append(_slice(pid, tid, _TRACKS[tid - 1], span.state, start + span.first, span.cycles, details))
        for order, (name_of, unit) in enumerate(timeline.units.items()):
            tid = before + 2 * order + 1
            for span in unit.waits:
                label = f"waits for {span.why}"
                events.append(_slice(pid, tid, "wait", label, start + span.first, span.cycles, {"command": span.index}))
            for span in unit.busy:
                command = unit.commands[span.index]
                events.append(_slice(pid, tid + 1, name_of, command.what, start + span.first, span.cycles, {
                    "command": span.index, "instruction": command.pc, "kernel": command.kernel, "queued": command.queued,
                    "taken": command.taken, "done": command.done, **command.fields}))
            for cycle, count in unit.depth:
                events.append({"ph": "C", "pid": pid, "ts": start + cycle, "name": f"{name_of} queue depth",
                               "args": {"commands": count}})
        for tid, (lane, spans) in enumerate(timeline.lanes.items(), before + 2 * len(timeline.units) + 1):
            events += [_slice(pid, tid, lane, span.state, start + span.first, span.cycles, {}) for span in spans]
        start += timeline.cycles
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"name": name, "unit": "1 us is 1 cycle"}}


def _slice(pid: int, tid: int, category: str, name: str, first: int, cycles: int, details: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "X", "pid": pid, "tid": tid, "cat": category, "name": name, "ts": first, "dur": cycles, "args": details}
