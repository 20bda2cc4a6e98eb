"""Errors of engines that hold a tile in the sequencer, one in the loader and one in the streamer."""

from typing import Any

from amaranth import *

from hw.array.commands import stop_at
from hw.array.hss_loader import HssLoader
from hw.array.hss_sequencer import HssSequencer
from hw.array.hss_stream import HssStreamer
from hw.array.results import ResultPipeline
from hw.ports import ErrorReport

__all__ = ["stop_at_the_oldest"]


def stop_at_the_oldest(m: Module, unit: Any, sequencer: HssSequencer, loader: HssLoader, streamer: HssStreamer,
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
