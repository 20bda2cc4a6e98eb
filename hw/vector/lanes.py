"""The lanes of the vector unit, and what travels beside them."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout
from hw.config import AcceleratorConfig
from hw.elements import FP32
from hw.share import shared
from hw.vector.layouts import slice_layout, slices_per_row
from hw.vector.requantize import RequantizeLane

__all__ = ["Lanes"]


class Lanes(wiring.Component):
    """Lanes: `vector_lanes` elements of a row in, as many bytes out. One pipeline; it moves as a whole or stands still.

    Latency `RequantizeLane.latency` cycles while the output is ready, initiation interval 1.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of `slice_layout(config)`)
    row : In(C × signed(acc_width))
        The accumulator row of `i`.
    bias : In(C × signed(32)), scale : In(C × float32), relu : In(1)
        Parameters of the row. They must stay while `scaling` (`relu`: while `busy`).
    o : Out(stream of `slice_layout(config)`)
    bytes : Out(lanes × 8)
        The elements of `o`.
    scaling : Out(1)
        A slice inside has yet to be scaled.
    busy : Out(1)
        A slice is inside.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(slice_layout(config))),
            "row": In(data.ArrayLayout(signed(config.acc_width), config.columns)),
            "bias": In(data.ArrayLayout(signed(32), config.columns)),
            "scale": In(data.ArrayLayout(float_layout(FP32), config.columns)),
            "relu": In(1),
            "o": Out(stream.Signature(slice_layout(config))),
            "bytes": Out(data.ArrayLayout(8, config.vector_lanes)),
            "scaling": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        layout = slice_layout(config)

        # The descriptions keep step with the lanes.
        advance = self.o.ready
        valid = Signal(RequantizeLane.latency)
        stages = [Signal(layout, name=f"slice_{stage}", reset_less=True) for stage in range(RequantizeLane.latency)]
        m.d.comb += [
            self.i.ready.eq(advance),
            self.o.valid.eq(valid[-1]),
            self.o.p.eq(stages[-1]),
            self.scaling.eq(valid[:RequantizeLane.scale_delay].any()),
            self.busy.eq(valid.any()),
        ]
        with m.If(advance):
            m.d.sync += valid.eq(Cat(self.i.valid, valid))
            for stage, source in zip(stages, [self.i.p, *stages], strict=False):
                m.d.sync += stage.eq(source)

        biased, scaled = stages[RequantizeLane.bias_delay - 1], stages[RequantizeLane.scale_delay - 1]
        row, bias = self._slice(m, "row", self.row, self.i.p), self._slice(m, "bias", self.bias, biased)
        scale = self._slice(m, "scale", self.scale, scaled)
        for number in range(config.vector_lanes):
            lane = RequantizeLane(acc_width=config.acc_width)
            m.submodules[f"lane_{number}"] = shared(platform, f"requantize_lane_a{config.acc_width}", lane)
            m.d.comb += [
                lane.enable.eq(advance),
                lane.acc.eq(row[number]),
                lane.bias.eq(bias[number]),
                lane.scale.eq(scale[number]),
                lane.relu.eq(self.relu),
                self.bytes[number].eq(lane.o),
            ]
        return m

    def _slice(self, m: Module, name: str, words: data.View, description: data.View) -> data.View:
        """Return the words of the columns that `description` names: `words` itself when a row is one slice."""
        config = self.config
        if slices_per_row(config) == 1:
            return words
        layout = words.shape()
        chosen = Signal(data.ArrayLayout(layout.elem_shape, config.vector_lanes), name=f"{name}_slice")
        m.d.comb += Value.cast(chosen).eq(Value.cast(words).word_select(description.index, Value.cast(chosen).shape().width))
        return chosen
