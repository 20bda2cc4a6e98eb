"""The ports by which the blocks of the frame meet: one Signature for each kind of connection."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import DESCRIPTORS, ErrorCause, Unit

__all__ = [
    "ADDRESS_WIDTH", "AXI_BURST_INCR", "AXI_CACHE_NORMAL", "AXI_FETCH_ID", "AXI_ID_WIDTH", "AXI_LOAD_ID", "AXI_PAGE_BYTES",
    "AccumulatorReadPort", "AccumulatorWritePort", "AxiLitePort", "AxiReadPort", "AxiWritePort", "ErrorReport",
    "ScratchpadReadPort", "ScratchpadWritePort", "UnitPort", "descriptor_layout", "engine_members",
]

ADDRESS_WIDTH = 32

AXI_ID_WIDTH = 1
AXI_LOAD_ID, AXI_FETCH_ID = 0, 1
AXI_BURST_INCR = 0b01
AXI_CACHE_NORMAL = 0b0011       # normal memory, not cached, bufferable: bridges may merge and split
AXI_PAGE_BYTES = 4096           # no burst crosses a multiple of it

ErrorReport = data.StructLayout({"cause": 8, "addr": 32})
"""What a unit says when it stops: an `ErrorCause` and the address or size that was wrong."""
assert max(ErrorCause) < 256


def descriptor_layout(unit: Unit) -> data.StructLayout:
    """Return the packed layout of a unit's command, from the instruction-set table."""
    return data.StructLayout({field.name: field.width for field in DESCRIPTORS[unit]})


class UnitPort(wiring.Signature):
    """A unit as its queue sees it (directions of the unit).

    Members
    -------
    command : In(stream of `descriptor_layout(unit)`)
        Taken when the unit can start on it; a unit may take the next command before it is done with the last.
    done : Out(1)
        One-cycle pulse for each command finished, in order.
    error : Out(1), report : Out(ErrorReport)
        Level: set on the first error and held until `abort`; the unit takes no more commands meanwhile.
    abort : In(1)
        Level: drop every command, finish what the bus protocol demands, become idle.
    busy : Out(1)
        High while any command or any bus transaction is in progress; low within bounded time after `abort` rises.
    """

    def __init__(self, unit: Unit):
        super().__init__({
            "command": In(stream.Signature(descriptor_layout(unit))),
            "done": Out(1),
            "error": Out(1),
            "report": Out(ErrorReport),
            "abort": In(1),
            "busy": Out(1),
        })


class ScratchpadReadPort(wiring.Signature):
    """One reader of the scratchpad (directions of the reader).

    Members
    -------
    addr : Out(line index), valid : Out(1), ready : In(1)
        Request; accepted when valid & ready. Requests may be dropped or changed before they are accepted.
    data : In(8·line_bytes)
        The line, in the cycle after the request was accepted, for that cycle only.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "addr": Out(ceil_log2(config.scratchpad_lines)),
            "valid": Out(1),
            "ready": In(1),
            "data": In(8 * config.line_bytes),
        })


class ScratchpadWritePort(wiring.Signature):
    """One writer of the scratchpad (directions of the writer).

    Members
    -------
    addr : Out(line index), data : Out(8·line_bytes), mask : Out(line_bytes)
        Line to write and which of its bytes.
    valid : Out(1), ready : In(1)
        The write happens when valid & ready and is seen by reads accepted from the next cycle on.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "addr": Out(ceil_log2(config.scratchpad_lines)),
            "data": Out(8 * config.line_bytes),
            "mask": Out(config.line_bytes),
            "valid": Out(1),
            "ready": In(1),
        })


class AccumulatorWritePort(wiring.Signature):
    """Result rows on their way into the accumulator (directions of the matrix engine). Never stalls.

    Members
    -------
    valid : Out(1)
        A row leaves the array in this cycle.
    addr : Out(row index)
        Accumulator row.
    accumulate : Out(1)
        0 overwrite, 1 add.
    data : Out(C × signed(psum_width))
        One psum for each column.
    offset : Out(C × row index), only with `config.lane_rows`
        What each column's row is beyond `addr`, modulo the accumulator's rows.
    """

    def __init__(self, config: AcceleratorConfig):
        rows = ceil_log2(config.accumulator_rows)
        members = {
            "valid": Out(1),
            "addr": Out(rows),
            "accumulate": Out(1),
            "data": Out(data.ArrayLayout(signed(config.psum_width), config.columns)),
        }
        super().__init__(members | ({"offset": Out(data.ArrayLayout(rows, config.columns))} if config.lane_rows else {}))


class AccumulatorReadPort(wiring.Signature):
    """The vector unit's view of the accumulator (directions of the reader).

    Members
    -------
    addr : Out(row index), valid : Out(1), ready : In(1)
        Request; refused (ready low) in the cycles in which the matrix engine adds to a row of the same bank (valid with
        `accumulate`); overwriting one does not disturb it. Accepted when valid & ready.
    data : In(C × signed(acc_width))
        The row, in the cycle after the request was accepted, for that cycle only.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "addr": Out(ceil_log2(config.accumulator_rows)),
            "valid": Out(1),
            "ready": In(1),
            "data": In(data.ArrayLayout(signed(config.acc_width), config.columns)),
        })


_ADDRESS_CHANNEL = {"id": AXI_ID_WIDTH, "addr": ADDRESS_WIDTH, "len": 8, "size": 3, "burst": 2, "cache": 4, "prot": 3}


def _channel(prefix: str, direction: type[wiring.In] | type[wiring.Out], members: dict[str, int]) -> dict[str, wiring.Member]:
    """Return the members of one AXI channel, handshake included, named in lower case as the AXI standard names them."""
    flip = In if direction is Out else Out
    return {**{prefix + name: direction(width) for name, width in members.items()},
            f"{prefix}valid": direction(1), f"{prefix}ready": flip(1)}


class AxiReadPort(wiring.Signature):
    """The read half of an AXI4 master: `araddr`, …, `arready`, `rdata`, …, `rready`."""

    def __init__(self, bus_width: int):
        super().__init__({
            **_channel("ar", Out, _ADDRESS_CHANNEL),
            **_channel("r", In, {"id": AXI_ID_WIDTH, "data": bus_width, "resp": 2, "last": 1}),
        })


class AxiWritePort(wiring.Signature):
    """The write half of an AXI4 master: `awaddr`, …, `awready`, `wdata`, …, `bready`."""

    def __init__(self, bus_width: int):
        super().__init__({
            **_channel("aw", Out, _ADDRESS_CHANNEL),
            **_channel("w", Out, {"data": bus_width, "strb": bus_width // 8, "last": 1}),
            **_channel("b", In, {"id": AXI_ID_WIDTH, "resp": 2}),
        })


class AxiLitePort(wiring.Signature):
    """An AXI4-Lite slave of 32 bits, directions of the slave: `awaddr`, …, `rready`."""

    def __init__(self, addr_width: int):
        super().__init__({
            **_channel("aw", In, {"addr": addr_width, "prot": 3}),
            **_channel("w", In, {"data": 32, "strb": 4}),
            **_channel("b", Out, {"resp": 2}),
            **_channel("ar", In, {"addr": addr_width, "prot": 3}),
            **_channel("r", Out, {"data": 32, "resp": 2}),
        })


def engine_members(config: AcceleratorConfig, macs: int) -> dict[str, wiring.Member]:
    """Return the members of a matrix engine that issues up to `macs` multiply-accumulates in a cycle."""
    return {
        "unit": Out(UnitPort(Unit.MATRIX)),
        "activation": Out(ScratchpadReadPort(config)),
        "weight": Out(ScratchpadReadPort(config)),
        "acc": Out(AccumulatorWritePort(config)),
        "active": Out(1),
        "macs": Out(range(macs + 1)),
        "macs_gated": Out(range(macs + 1)),
    }
