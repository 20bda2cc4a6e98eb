"""What engines share that hold a tile in the sequencer, one in the loader and one in the streamer: wiring, results, errors."""

from collections.abc import Sequence
from typing import Any

from amaranth import *
from amaranth.lib.wiring import connect, flipped

from hw.array.commands import stop_at, take_commands
from hw.array.hss_loader import HssLoader
from hw.array.hss_sequencer import HssSequencer
from hw.array.hss_stream import HssStreamer
from hw.array.results import ResultPipeline
from hw.ports import ErrorReport

__all__ = ["weave"]


def weave(m: Module, engine: Any, sequencer: HssSequencer, loader: HssLoader, streamer: HssStreamer, results: ResultPipeline,
          psums: Sequence[Value]) -> None:
    """Connect the blocks of an engine with each other and with its ports, but for columns: commands, tiles, rows of sums.

    Errors are precise: raised when all earlier commands are done. `abort` resets the blocks.

    Parameters
    ----------
    engine : Component
        With `hw.ports.engine_members`.
    psums : sequence of Value
        Of each column, valid with `results.valid_out`.
    """
    unit, abort = engine.unit, ResetInserter(engine.unit.abort)
    for name, block in (("sequencer", sequencer), ("loader", loader), ("streamer", streamer), ("results", results)):
        m.submodules[name] = abort(block)
    connect(m, sequencer=sequencer.o, loader=loader.i)
    connect(m, loader=loader.o, streamer=streamer.i)
    connect(m, loader=loader.read, scratchpad=flipped(engine.weight))
    connect(m, streamer=streamer.read, scratchpad=flipped(engine.activation))
    closed = take_commands(m, unit, sequencer.i)
    m.d.comb += [
        loader.halt.eq(closed), streamer.halt.eq(closed),
        results.valid.eq(streamer.issue), results.tag.eq(streamer.tag),
        engine.acc.valid.eq(results.valid_out), engine.acc.addr.eq(results.tag_out.addr),
        engine.acc.accumulate.eq(results.tag_out.accumulate),
        *(word.eq(psum) for word, psum in zip(engine.acc.data, psums, strict=True)),
        engine.active.eq(results.valid_out),
        unit.busy.eq(sequencer.busy | loader.loaded | streamer.loaded | ~results.empty | unit.done),
    ]
    m.d.sync += unit.done.eq(results.valid_out & results.tag_out.last & ~unit.abort)
    _stop_at_the_oldest(m, unit, sequencer, loader, streamer, results)


def _stop_at_the_oldest(m: Module, unit: Any, sequencer: HssSequencer, loader: HssLoader, streamer: HssStreamer,
                        results: ResultPipeline) -> None:
    """Stop at the first fault once everything older is done."""
    fault, report = Signal(), Signal(ErrorReport)
    with m.If(streamer.loaded):
        m.d.comb += [fault.eq(streamer.fault), report.eq(streamer.report)]
    with m.Elif(loader.loaded):
        m.d.comb += [fault.eq(loader.fault), report.eq(loader.report)]
    with m.Else():
        m.d.comb += [fault.eq(sequencer.fault), report.eq(sequencer.report)]
    stop_at(m, unit, fault & results.empty, report)
