"""P3-LLM's pseudo-channel: a unit for each bank of a set, two vectors for each column that the DRAM sends."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError
from hw.memory.fifo import StreamFIFO
from hw.pim.channel import dram_phases
from hw.pim.config import PimConfig
from hw.pim.multiplier import ACC_WIDTH
from hw.pim.p3_unit import P3_LANES, P3_PES, P3_VECTORS, P3Unit
from hw.pim.ports import DramPort, row_job_layout, write_burst_layout
from hw.pim.row_engine import RowEngine
from hw.pim.weight_skid import WeightSkid, skid_depth

__all__ = ["P3Channel", "p3_job_layout"]

_X = 8                      # bits of an input
_WORD = 256                 # bits of the ports for inputs and results: the pins' 128 bits in two DRAM clocks
_STEPS = _WORD // (P3_LANES * _X)       # columns whose inputs are a word
_BURST = 4 * P3_PES * P3_LANES
_FORMATS = {"wtype": "bitmod4", "kvtype": "p3-kv", "xtype": "float8_e4m3fn", "ptype": "float8_s0e4m4", "rows_x": P3_VECTORS}


def p3_job_layout(config: PimConfig, *, inputs: int, sides: int) -> data.StructLayout:
    """Return the layout of a job.

    row: columns of one row of a set, read, or written from `write`; mode: of `P3Unit`; two: both vectors, else the first alone;
    x: step of the first column's inputs; side: which zero points and special values; first, last: accumulators begin at zero, are
    read out afterwards. A job that writes has only `row`.
    """
    return data.StructLayout({
        "row": row_job_layout(sets=config.row_sets, rows=config.dram_rows, columns=config.dram.columns), "mode": 2, "two": 1,
        "x": ceil_log2(inputs // P3_LANES), "side": ceil_log2(sides), "first": 1, "last": 1})


class P3Channel(wiring.Component):
    """Row engine, units, and the inputs of two vectors.

    A column has the cycles of an interval, two: in the first all units multiply it with the first vector's four inputs, in the
    second with the other's. Results wait in a register while the next job runs; a job that is `last` waits at its last column
    until they have left.

    Parameters
    ----------
    config : PimConfig
        With the formats of P3-LLM and int32, streams that bring a column of 256 bits to a unit each.
    inputs : int
        Of each vector, a multiple of 32.
    sides : int
        Sets of zero points and special values.

    Members
    -------
    job : In(stream of `p3_job_layout`)
    write : In(stream of `write_burst_layout`)
        Bursts of the jobs that write.
    x : In({valid: 1, vector, at, data: 256})
        Inputs 32·at and on.
    side : In({valid: 1, at, zero_point, special})
        By unit: those of its PEs, see `P3Unit`.
    o : Out(stream of 256)
        Results of a job that is `last`: by vector, unit and PE, eight int32 a word.
    dram : Out(`DramPort`)
    idle : Out(1)
        Nothing is under way.
    saturated, invalid : Out(1)
        See `P3Unit`; of any.

    Raises
    ------
    ConfigError
        If the configuration is not P3-LLM's, or a size none that can be built.

    Reference
    ---------
    Chen et al., P3-LLM, arXiv 2511.06838: the throughput-enhanced mode. How we differ: rows follow each other in
    RTP + RP + RCD, where its simulator counts RP + RCD, and results are read out beside the next columns.
    """

    def __init__(self, config: PimConfig, *, inputs: int = 4096, sides: int = 64):
        for name, value in _FORMATS.items():
            if getattr(config, name) != value:
                raise ConfigError(f"PimConfig.{name} must be {value} for P3-LLM's units, not {getattr(config, name)!r}")
        if 8 * config.burst_bytes != _BURST or config.pim_per_burst != P3_VECTORS:
            raise ConfigError(f"PimConfig.pim_per_burst must be {P3_VECTORS}, with bursts of {_BURST // 8} bytes, for P3-LLM's "
                              f"units, not {config.pim_per_burst!r}")
        for name, value, each in (("inputs", inputs, _STEPS * P3_LANES), ("sides", sides, 1)):
            if value < 1 or value % each:
                raise ConfigError(f"P3Channel.{name} must be a positive multiple of {each}, not {value!r}")
        self._config, self._words, self._sides = config, inputs // (_STEPS * P3_LANES), sides
        self.units = config.streams
        self._job = p3_job_layout(config, inputs=inputs, sides=sides)
        of_units = {name: data.ArrayLayout(data.ArrayLayout(bits, P3_PES), self.units)
                    for name, bits in (("zero_point", 4), ("special", 2))}
        self._side = data.StructLayout(of_units)
        super().__init__({
            "job": In(stream.Signature(self._job)),
            "write": In(stream.Signature(write_burst_layout(config.streams, config.burst_bytes))),
            "x": In(wiring.Signature({"valid": Out(1), "vector": Out(1), "at": Out(ceil_log2(self._words)), "data": Out(_WORD)})),
            "side": In(wiring.Signature({"valid": Out(1), "at": Out(ceil_log2(sides)), "data": Out(self._side)})),
            "o": Out(stream.Signature(_WORD)),
            "dram": Out(DramPort(streams=config.streams, burst_bytes=config.burst_bytes, sets=config.row_sets,
                                 rows=config.dram_rows, columns=config.dram.columns, phases=dram_phases(config))),
            "idle": Out(1), "saturated": Out(1), "invalid": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        depth = skid_depth(config.dram, config.interval)
        m.submodules.rows = rows = RowEngine(
            timing=config.dram, interval=config.interval, streams=config.streams, phases=dram_phases(config),
            rows=config.dram_rows, credits=depth, same_bank=config.refresh == "same-bank")
        m.submodules.skid = skid = WeightSkid(width=_BURST * self.units, beats=1, depth=depth)
        m.submodules.jobs = jobs = StreamFIFO(shape=self._job, depth=4)
        wiring.connect(m, rows.dram, wiring.flipped(self.dram))
        wiring.connect(m, wiring.flipped(self.write), rows.write)
        reads = ~self.job.p.row.write
        m.d.comb += [
            self.job.ready.eq(rows.i.ready & (jobs.i.ready | ~reads)), rows.i.valid.eq(self.job.valid & (jobs.i.ready | ~reads)),
            rows.i.p.eq(self.job.p.row), jobs.i.valid.eq(self.job.valid & rows.i.ready & reads), jobs.i.p.eq(self.job.p),
            skid.valid.eq(self.dram.rvalid), skid.data.eq(self.dram.rdata), rows.credit.eq(skid.credit),
        ]

        # A column, once or twice: the inputs are read, then the units begin.
        job = jobs.o.p
        column, second = Signal(range(config.dram.columns)), Signal()
        ends, leaves, waits = Signal(), Signal(), Signal()
        goes = jobs.o.valid & (second | (skid.o.valid & ~waits))
        step = Signal(len(job.x) + 1)
        m.d.comb += [
            ends.eq(column == job.row.bursts), leaves.eq(goes & (second | ~job.two)), skid.o.ready.eq(goes & ~second),
            jobs.o.ready.eq(leaves & ends), step.eq(job.x + column),
        ]
        with m.If(goes):
            m.d.sync += second.eq(job.two & ~second)
        with m.If(leaves):
            m.d.sync += column.eq(Mux(ends, 0, column + 1))
        begin = Signal(data.StructLayout({"valid": 1, "hold": 1, "mode": 2, "vector": 1, "first": 1, "step": ceil_log2(_STEPS)}))
        weights = Signal(_BURST * self.units)
        m.d.sync += [begin.valid.eq(goes), begin.hold.eq(second), begin.mode.eq(job.mode), begin.vector.eq(second),
                     begin.first.eq(job.first & (column == 0)), begin.step.eq(step), weights.eq(skid.o.p)]
        words = []
        for vector in range(P3_VECTORS):
            m.submodules[f"inputs_{vector}"] = inputs = memory.Memory(shape=_WORD, depth=self._words, init=[],
                                                                      attrs={"ram_style": "block"})
            into, outof = inputs.write_port(), inputs.read_port()
            m.d.comb += [into.addr.eq(self.x.at), into.data.eq(self.x.data), into.en.eq(self.x.valid & (self.x.vector == vector)),
                         outof.addr.eq(step >> ceil_log2(_STEPS)), outof.en.eq(1)]
            words.append(outof.data)
        m.submodules.sides = sides = memory.Memory(shape=self._side, depth=self._sides, init=[], attrs={"ram_style": "block"})
        write, read = sides.write_port(), sides.read_port()
        m.d.comb += [write.addr.eq(self.side.at), write.data.eq(self.side.data), write.en.eq(self.side.valid),
                     read.addr.eq(job.side), read.en.eq(1)]
        units = []
        for index in range(self.units):
            m.submodules[f"unit_{index}"] = unit = P3Unit()
            m.d.comb += [
                unit.valid.eq(begin.valid), unit.hold.eq(begin.hold), unit.column.eq(weights.word_select(index, _BURST)),
                unit.x.as_value().eq(Mux(begin.vector, words[1], words[0]).word_select(begin.step, P3_LANES * _X)),
                unit.mode.eq(begin.mode), unit.vector.eq(begin.vector), unit.first.eq(begin.first),
                unit.zero_point.eq(read.data.zero_point[index]), unit.special.eq(read.data.special[index]),
            ]
            units.append(unit)
        m.d.comb += [self.saturated.eq(Cat(unit.saturated for unit in units).any()),
                     self.invalid.eq(Cat(unit.invalid for unit in units).any())]

        # Results: caught when the last column is in, and sent word by word.
        per_vector = P3_PES * ACC_WIDTH * self.units // _WORD
        complete = Cat(leaves & ends & job.last, job.two)
        under_way = []
        for stage in range(1 + P3Unit.latency):
            later = Signal(2, name=f"complete_{stage}")
            m.d.sync += later.eq(complete)
            under_way.append(later[0])
            complete = later
        results, left = Signal(P3_VECTORS * per_vector * _WORD), Signal(range(P3_VECTORS * per_vector + 1))
        m.d.comb += [self.o.valid.eq(left != 0), self.o.p.eq(results[:_WORD]),
                     waits.eq(ends & job.last & (Cat(under_way).any() | (left > 1)))]
        with m.If(complete[0]):
            m.d.sync += [results.eq(Cat(unit.o[vector] for vector in range(P3_VECTORS) for unit in units)),
                         left.eq(Mux(complete[1], P3_VECTORS * per_vector, per_vector))]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [results.eq(results >> _WORD), left.eq(left - 1)]
        m.d.comb += self.idle.eq(rows.idle & ~jobs.o.valid & ~begin.valid & ~Cat(under_way).any() & (left == 0))
        return m
