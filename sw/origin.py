"""Where a byte of the scratchpad comes from: the last command that wrote it, and its place in what that made."""

from collections.abc import Mapping, Sequence
from typing import Any

from hw.config import AcceleratorConfig
from hw.isa import Unit, VectorOutput, VectorSource
from sw.golden.sequencer import Event
from sw.golden.vector.streams import output_stream
from sw.layout import round_up
from sw.program import Program

__all__ = ["origin_of"]


def origin_of(config: AcceleratorConfig, program: Program, trace: Sequence[Event], byte: int) -> dict[str, Any]:
    """Return what wrote a byte of the scratchpad last.

    Parameters
    ----------
    config : AcceleratorConfig
    program : Program
    trace : sequence of Event
        The commands before, in program order.
    byte : int
        In the scratchpad.

    Returns
    -------
    dict
        `index` among the commands, `pc`, `kernel` and `unit`; of a vector command also `source`, `output`, and `row` and `column`
        of the element. Empty if no command wrote the byte.
    """
    for index in reversed(range(len(trace))):
        event = trace[index]
        place = _written(config, event, byte)
        if place is not None and event.unit is not None:
            unit = event.unit.name.lower()
            return {"index": index, "pc": event.pc, "kernel": program.kernel_at(event.pc), "unit": unit, **place}
    return {}


def _written(config: AcceleratorConfig, event: Event, byte: int) -> dict[str, Any] | None:
    """Return the place of a byte in what a command wrote, or None if it did not write it."""
    fields = event.fields
    if event.unit == Unit.LOAD:
        return {} if _loaded(config, fields, byte) else None
    stream = output_stream(fields) if event.unit == Unit.VECTOR else None
    if stream is None:
        return None
    n = 1 if fields["source"] in (VectorSource.ROW, VectorSource.SCALAR) else fields["n"]
    place = stream.locate(config, byte, fields["m"], n)
    if place is None:
        return None
    return {"source": VectorSource(fields["source"]).name.lower(), "output": VectorOutput(fields["output"]).name.lower(),
            "row": place[0], "column": place[1]}


def _loaded(config: AcceleratorConfig, fields: Mapping[str, int], byte: int) -> bool:
    """Return whether a load writes a byte: whole beats of each of its rows in the scratchpad."""
    angles = fields.get("stream", 0) and fields["unpack"]
    if fields.get("stream") and not angles:
        return False
    rows, row_bytes = fields["rows"], fields["row_bytes"] * (1 + (fields.get("unpack", 0) and not angles))
    count, size = (row_bytes, rows) if fields["transpose"] else (rows, row_bytes)
    past, stride = byte - fields["addr"], fields["stride"]
    last = min(count - 1, past // stride) if stride else 0          # the last row that begins at the byte or before it
    return past >= 0 and past - last * stride < round_up(size, config.beat_bytes)
