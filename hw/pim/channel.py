"""One pseudo-channel of the logic die: row engine, weight skid and compute path."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.fifo import StreamFIFO
from hw.pim.compute import ComputePath, mac_job_layout
from hw.pim.config import PimConfig
from hw.pim.multiplier import operand_named
from hw.pim.ports import DramPort, RowJob, row_job_layout, write_burst_layout
from hw.pim.row_engine import RowEngine
from hw.pim.store_unit import PimStoreUnit, store_layout
from hw.pim.weight_skid import WeightSkid, skid_depth

__all__ = ["PimChannel", "channel_job_layout", "compute_path", "dram_phases"]


def dram_phases(config: PimConfig) -> int:
    """Return the DRAM clocks in a cycle of the PIM clock."""
    return config.interval // config.pim_per_burst


def channel_job_layout(config: PimConfig) -> data.StructLayout:
    """Return the layout of a job of a channel: what the row engine reads, and what the compute path makes of it.

    With another `row.kind` than BURSTS it is for the row engine alone. With `row.write` it is a write, and `mac` means nothing:
    of bursts that come by `write`, or with `from_x` of slices of X, as `store` says. Else `mac.bursts` equals `row.bursts`.
    """
    return data.StructLayout({
        "row": row_job_layout(sets=config.row_sets, rows=config.dram_rows, columns=config.columns),
        "from_x": 1,
        "store": store_layout(slices=config.xbuf_entries, beats=config.beats, most=config.columns * config.beats,
                              segments=config.segments),
        "mac": mac_job_layout(bursts=config.columns, beats=config.beats, slices=config.xbuf_entries, width=config.width,
                              entries=config.obuf_entries),
    })


def compute_path(config: PimConfig) -> ComputePath:
    """Return the compute path of a configuration.

    Ways to read the operands, by `mac.select`: 0 weights × activations, 1 K × queries, 2 V × probabilities, where they differ.
    """
    ways = [(config.wtype, config.xtype), (config.kvtype, config.xtype), (config.kvtype, config.ptype)]
    if len(set(ways)) == 1:
        ways = ways[:1]
    return ComputePath(
        weights=tuple(operand_named(weight) for weight, _ in ways), xs=tuple(operand_named(x) for _, x in ways), acc=config.acc,
        lanes=config.lanes, rows=config.rows_x, slots=config.n_acc_slots, groups=config.bcast_entries, beats=config.beats,
        bursts=config.columns, slices=config.xbuf_entries, entries=config.obuf_entries, wide=config.wide_entries,
        segments=config.segments, side_word=config.word_bytes)


class PimChannel(wiring.Component):
    """Jobs in; weights from the DRAM through the MACs into the output buffer.

    A job goes to the row engine and to the compute path at once, so rows are opened while earlier bursts are multiplied. The skid
    has room for every burst that is on its way. A job that writes is taken when what was multiplied before is done, and the next
    one that multiplies when what comes from X has been read: so jobs are done in their order, whatever they do.

    Parameters
    ----------
    config : PimConfig

    Members
    -------
    job : In(stream of `channel_job_layout`)
    write : In(stream of `write_burst_layout`)
        Bursts of the jobs that write what does not come from X.
    hold : In(1), slack : Out(4)
        See `RowEngine`.
    dram : Out(`DramPort`)
    x, x_ready, side, bias, ready, entry, readable, o
        `x`, `x_ready`, `side`, `write`, `ready`, `entry`, `readable`, `o` of `ComputePath`.
    idle : Out(1)
        Every job is done, and every result and every burst is written.
    done : Out(1), copied : Out(1), stored : Out(1)
        The oldest job that multiplies, or copies, is done (`ComputePath`); the oldest that writes has given its last burst to the
        DRAM.
    managed : Out(1)
        The oldest job that only opens, closes or refreshes is done.
    finished : Out(1)
        Any of these: the oldest job is done.
    range_error, nan_error : Out(1)
        See `ComputePath`.
    active, stall_row, stall_refresh, stall_credit, stall_hazard : Out(1)
        A beat is multiplied; why none is.

    Raises
    ------
    ConfigError
        If the configuration is none that can be built.
    """

    def __init__(self, config: PimConfig):
        self._config = config
        timing = config.dram
        self.phases = dram_phases(config)
        self._compute = compute_path(config)
        self.wide = self._compute.wide          # entries that take BCAST's results
        self.elementwise = self._compute.elementwise
        self._depth = skid_depth(timing, config.interval)
        members = self._compute.signature.members
        self._passed = {"x": "x", "x_ready": "x_ready", "bias": "write", "ready": "ready", "entry": "entry",
                        "readable": "readable", "o": "o", "nan_error": "nan_error", "done": "done", "copied": "copied",
                        **({"side": "side"} if self._compute.has_sides else {})}
        super().__init__({
            "job": In(stream.Signature(channel_job_layout(config))),
            "write": In(stream.Signature(write_burst_layout(config.streams, config.burst_bytes))),
            "hold": In(1), "slack": Out(4),
            "dram": Out(DramPort(streams=config.streams, burst_bytes=config.burst_bytes, sets=config.row_sets * config.stripes,
                                 rows=config.dram_rows, columns=timing.columns, phases=self.phases)),
            **{name: members[inner] for name, inner in self._passed.items()},
            "idle": Out(1), "range_error": Out(1), "stored": Out(1), "managed": Out(1), "finished": Out(1), "active": Out(1),
            "stall_row": Out(1),
            "stall_refresh": Out(1), "stall_credit": Out(1), "stall_hazard": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.row_engine = rows = RowEngine(
            timing=config.dram, interval=config.interval, streams=config.streams, phases=self.phases, rows=config.dram_rows,
            credits=self._depth, same_bank=config.refresh == "same-bank", stripes=config.stripes)
        m.submodules.skid = skid = WeightSkid(width=8 * config.burst_bytes * config.streams, beats=config.beats,
                                              depth=self._depth, segments=config.segments)
        m.submodules.compute = compute = self._compute
        wiring.connect(m, rows.dram, wiring.flipped(self.dram))
        wiring.connect(m, producer=skid.o, consumer=compute.weight)
        m.submodules.store = store = PimStoreUnit(
            width=8 * config.burst_bytes * config.streams // (config.beats * config.segments), beats=config.beats,
            streams=config.streams, burst_bytes=config.burst_bytes, slices=config.xbuf_entries,
            most=config.columns * config.beats, segments=config.segments)
        m.submodules.sources = sources = StreamFIFO(shape=1, depth=4)
        job, both = self.job.payload, Signal()
        from_x, bursts = sources.o.p, job.row.kind == RowJob.BURSTS
        # A store of elements that are no weights is dropped and reported.
        foreign, dropped = Signal(), Signal()
        m.d.comb += foreign.eq(job.row.write & job.from_x & (not compute.copies))
        m.d.sync += dropped.eq(dropped | (foreign & self.job.valid))
        m.d.comb += [
            # Neither takes a job that another one does not.
            both.eq(~foreign & rows.i.ready & (~bursts | Mux(
                job.row.write, sources.i.ready & compute.idle & (~job.from_x | store.i.ready), compute.job.ready & store.idle))),
            sources.i.valid.eq(self.job.valid & both & job.row.write & bursts), sources.i.p.eq(job.from_x),
            store.i.valid.eq(self.job.valid & both & job.row.write & job.from_x & bursts), store.i.p.eq(job.store),
            compute.peek.eq(store.slice), store.data.eq(compute.peeked),
            self.job.ready.eq(both | foreign), rows.i.valid.eq(self.job.valid & both), rows.i.payload.eq(job.row),
            compute.job.valid.eq(self.job.valid & both & ~job.row.write & bursts), compute.job.payload.eq(job.mac),
            rows.write.valid.eq(sources.o.valid & Mux(from_x, store.o.valid, self.write.valid)),
            rows.write.payload.eq(Mux(from_x, store.o.p, self.write.p)),
            store.o.ready.eq(rows.write.ready & sources.o.valid & from_x),
            self.write.ready.eq(rows.write.ready & sources.o.valid & ~from_x), sources.o.ready.eq(rows.stored),
            self.range_error.eq(compute.range_error | dropped),
            skid.valid.eq(self.dram.rvalid), skid.data.eq(self.dram.rdata), rows.credit.eq(skid.credit),
            rows.hold.eq(self.hold), self.slack.eq(rows.slack),
            self.idle.eq(rows.idle & compute.idle & store.idle), self.stored.eq(rows.stored), self.managed.eq(rows.managed),
            self.finished.eq(compute.done | compute.copied | rows.stored | rows.managed),
            self.active.eq(compute.macs),
            self.stall_row.eq(rows.stall_row), self.stall_refresh.eq(rows.stall_refresh),
            self.stall_credit.eq(rows.stall_credit), self.stall_hazard.eq(compute.stall_hazard),
        ]
        for name, inner in self._passed.items():
            outer_port, inner_port = getattr(self, name), getattr(compute, inner)
            if self.signature.members[name].is_signature:
                wiring.connect(m, wiring.flipped(outer_port), inner_port)
            elif self.signature.members[name].flow == wiring.In:
                m.d.comb += Value.cast(inner_port).eq(Value.cast(outer_port))
            else:
                m.d.comb += Value.cast(outer_port).eq(Value.cast(inner_port))
        return m


