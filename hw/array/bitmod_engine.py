"""The BitMoD engine with int8 activations: matrix commands in, rows of integer products for the accumulator out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import connect, flipped

from hw.array.bitmod_array import BitmodArray
from hw.array.bitmod_walker import BitmodWalker, bitmod_tag_layout
from hw.array.operand import OperandFetch
from hw.config import AcceleratorConfig, ceil_power_of_two
from hw.elements import ELEMENTS
from hw.errors import ConfigError
from hw.pe.bitmod.precision import LANES, PRECISIONS
from hw.pe.bitmod.shape import SCALE_BITS, BitmodShape
from hw.ports import engine_members

__all__ = ["BitmodEngine"]

_HEADER_BITS = 16       # of each column: scale, index of the special value


class BitmodEngine(wiring.Component):
    """R×C BitMoD PEs behind the frame's ports: int8 activations, weights of one precision in groups with INT8 scales.

        commands ─▶ BitmodWalker ─▶ slots of both operands ─▶ BitmodArray ─▶ rows of products ─▶ accumulator

    The accumulator adds the products of all groups; it saturates. They are in units of the weights, FP4 and FP3 in halves:
    whoever scales the rows multiplies by 0.5. A command is output-stationary, and its operands lie in slots:

    * Activations: R·4 bytes for each four of K, k by k, R bytes each: four neighbouring slots of the systolic engine.
      `activation_stride` leads to the next four k, `activation_tile_stride` to the next R rows.
    * Weights: for each group a header and then a slot for each four of K, each at `weight_stride` from the one before. A slot has
      4·C codes, k by k; codes of up to 4 bits are nibbles, low one first, others bytes. The header has two bytes for each column:
      the scale, and the index of the special value. `weight_tile_stride` leads to the next C columns.

    Slots of the last group go as far as K, of which the last four may be fewer; rows beyond M are computed and not written,
    columns beyond N are written as zero. Steps follow each other as `hw.engines.bitmod.bitmod_cycles` says, where operands do not
    wait; of weights of two terms the first step of a command comes 2 cycles later. A command alone takes S·T + R' + 19 cycles
    from being taken to `done`: S steps of T cycles, R' rows of its last tile.

    Errors are precise: raised when all earlier commands are done, so the oldest command that is not done is at fault.

    Parameters
    ----------
    config : AcceleratorConfig
        Gives R and C, both powers of two, the memories and `psum_width`.
    precision : str
        Of the weights, a key of `PRECISIONS`.
    group : int
        G.
    specials : tuple of float
        Special values, by index.

    Members
    -------
    unit : Out(UnitPort(Unit.MATRIX))
    activation, weight : Out(ScratchpadReadPort)
    acc : Out(AccumulatorWritePort)
    active : Out(1)
        A step is issued in this cycle.
    macs, macs_gated : Out(range(4·R·C + 1))
        Its multiply-accumulates on valid rows, columns and k, and those on padding.

    Raises
    ------
    ConfigError
        If the shape does not suit the engine, or products do not fit a psum.
    """

    def __init__(self, config: AcceleratorConfig, *, precision: str, group: int = 128,
                 specials: tuple[float, ...] = (5.0, -5.0, 8.0, -8.0)):
        self.config = config
        self.shape = BitmodShape(activation=ELEMENTS["int8"], precisions=(precision,), group=group)
        self._precision, self._specials = PRECISIONS[precision], specials
        self._code_bits = 4 if precision in ("int4", "int3", "fp4", "fp3") else 8
        for name in ("rows", "columns"):
            size = getattr(config, name)
            if size & size - 1:
                raise ConfigError(f"AcceleratorConfig.{name} must be a power of two for BitMoD (nearest: "
                                  f"{ceil_power_of_two(size)}), not {size!r}")
        if self.shape.product_width > config.psum_width:
            raise ConfigError(f"BitmodEngine.group must be such that products ({self.shape.product_width} bits) fit a psum "
                              f"({config.psum_width} bits), not {group!r}")
        self.activation_slot_bytes = LANES * config.rows
        self.weight_slot_bytes = LANES * config.columns * self._code_bits // 8
        largest = max(self.activation_slot_bytes, self.weight_slot_bytes)
        if largest > config.line_bytes:
            raise ConfigError(f"AcceleratorConfig.bus_width must make lines of at least {largest} bytes for BitMoD (a slot), "
                              f"not of {config.line_bytes}")
        super().__init__(engine_members(config, LANES * config.rows * config.columns))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, unit = self.config, self.unit
        abort = ResetInserter(unit.abort)
        tag = bitmod_tag_layout(config)
        walker = BitmodWalker(config, group=self.shape.group, activation_slot=self.activation_slot_bytes,
                              weight_slot=self.weight_slot_bytes)
        array = BitmodArray(self.shape, rows=config.rows, columns=config.columns, tag_width=tag.size, specials=self._specials)
        fetch = OperandFetch(config, request=walker.activation.signature, element_width=8)
        m.submodules.walker = abort(walker)
        m.submodules.array = abort(array)
        m.submodules.fetch_activation = fetch
        connect(m, walker=walker.activation, fetch=fetch.request)
        connect(m, fetch=fetch.read, scratchpad=flipped(self.activation))
        codes, header = self._weights(m, walker)

        # A step: issued, its slots arrive, it is offered until the array takes it. Its slots stay where they are meanwhile.
        described = data.StructLayout({"group_last": 1, "last": 1, "tag": tag.size})
        arriving, offered = Signal(), Signal()
        step_1, step_2 = Signal(described, reset_less=True), Signal(described, reset_less=True)
        current = Signal.like(header)
        m.d.comb += [walker.room.eq(~arriving & (~offered | array.i.ready)), array.i.valid.eq(offered)]
        m.d.sync += [arriving.eq(walker.issue & ~unit.abort), offered.eq((arriving | (offered & ~array.i.ready)) & ~unit.abort)]
        with m.If(walker.issue):
            m.d.sync += [step_1.group_last.eq(walker.group_last), step_1.last.eq(walker.last), step_1.tag.eq(walker.tag)]
        with m.If(arriving):        # the next group's header may come while this step is offered
            m.d.sync += [step_2.eq(step_1), current.eq(header)]
        self._step(m, array, fetch, codes, current)
        m.d.comb += [array.i.p.group_last.eq(step_2.group_last), array.i.p.last.eq(step_2.last), array.i.p.tag.eq(step_2.tag)]

        results = data.View(tag, array.o.tag)
        m.d.comb += [
            self.acc.valid.eq(array.o_valid & (array.o_row < results.rows)),
            self.acc.addr.eq(results.addr + array.o_row),
            self.acc.accumulate.eq(results.accumulate | ~array.o.fresh),
            *(self.acc.data[c].eq(Mux(c < results.columns, array.o.products[c], 0)) for c in range(config.columns)),
            self.active.eq(walker.issue),
        ]
        with m.If(walker.issue):
            m.d.comb += [self.macs.eq(walker.macs), self.macs_gated.eq(LANES * config.rows * config.columns - walker.macs)]
        ends = self.acc.valid & (array.o_row == results.rows - 1) & array.o.last & results.last
        m.d.sync += unit.done.eq(ends & ~unit.abort)

        closed = unit.error | unit.abort
        inside = arriving | offered | array.busy | unit.done
        m.d.comb += [
            walker.i.p.eq(unit.command.p), walker.i.valid.eq(unit.command.valid & ~closed),
            unit.command.ready.eq(walker.i.ready & ~closed), walker.halt.eq(closed), unit.busy.eq(walker.busy | inside),
        ]
        with m.If(unit.abort):
            m.d.sync += unit.error.eq(0)
        with m.Elif(walker.fault & ~inside & ~unit.error):
            m.d.sync += [unit.error.eq(1), unit.report.eq(walker.report)]
        return m

    def _weights(self, m: Module, walker: BitmodWalker) -> tuple[Signal, Signal]:
        """Read the weight slots; return the codes of the last step, and the last header, each two cycles after its grant."""
        config, request, read = self.config, walker.weight, self.weight
        m.d.comb += [read.addr.eq(request.line), read.valid.eq(request.valid), request.ready.eq(read.ready)]
        codes = Signal(LANES * config.columns * self._code_bits, reset_less=True)
        header = Signal(config.columns * _HEADER_BITS, reset_less=True)
        granted = request.valid & request.ready
        codes_arrive, header_arrives = Signal(), Signal()
        offset = Signal.like(request.offset)
        m.d.sync += [codes_arrive.eq(granted & ~walker.header), header_arrives.eq(granted & walker.header)]
        with m.If(granted):
            m.d.sync += offset.eq(request.offset)
        bits = 8 * self.weight_slot_bytes
        slot = Array(read.data[low:low + bits] for low in range(0, len(read.data), bits))[offset]
        with m.If(codes_arrive):
            m.d.sync += codes.eq(slot)
        with m.If(header_arrives):
            m.d.sync += header.eq(slot)
        return codes, header

    def _step(self, m: Module, array: BitmodArray, fetch: OperandFetch, codes: Signal, header: Signal) -> None:
        """Sort slots and header into a step."""
        config, step = self.config, array.i.p
        m.d.comb += step.precision.eq(self._precision)
        for lane in range(LANES):
            m.d.comb += [step.activations[r][lane].eq(fetch.lanes[lane * config.rows + r]) for r in range(config.rows)]
            m.d.comb += [step.codes[c][lane].eq(codes.word_select(lane * config.columns + c, self._code_bits))
                         for c in range(config.columns)]
        for c in range(config.columns):
            entry = header.word_select(c, _HEADER_BITS)
            m.d.comb += [step.scales[c].eq(entry[:SCALE_BITS]), step.specials[c].eq(entry[SCALE_BITS:SCALE_BITS + 2])]
