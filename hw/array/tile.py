"""What the blocks of the systolic engine tell each other: tiles, slot requests, results; and addresses that cannot wrap."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import DESCRIPTORS, Dataflow, Unit

__all__ = ["SlotRequest", "advance", "is_os", "result_layout", "running_address", "tag_layout", "tile_layout"]

_WIDTHS = {field.name: field.width for field in DESCRIPTORS[Unit.MATRIX]}


def running_address(field: str) -> data.StructLayout:
    """Return the layout of an address that starts as the command field `field`: its bits, and a sticky overflow bit."""
    return data.StructLayout({"value": _WIDTHS[field], "overflow": 1})


def advance(address: data.View, stride: Value) -> Value:
    """Return `address` moved on by `stride` of any width; its overflow bit sticks: a wrong one is seen and never wraps."""
    width = address.value.shape().width
    moved = address.value + stride
    carry = moved[width:]
    return Cat(moved[:width], (carry.any() if len(carry) > 1 else carry) | address.overflow)


def is_os(config: AcceleratorConfig, dataflow: Value) -> Value:
    """Return whether `dataflow` is output-stationary; a constant where the config has only one."""
    if len(config.dataflows) == 2:
        return dataflow == Dataflow.OS
    return Const("os" in config.dataflows, 1)


def tile_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of one tile of stationary operand with all slots that are streamed against it.

    `resume`: the weight slots (and with OS the activation slots) go on where the last tile's ended, else they start at the
    given address. `steps`: slots to stream. `rows`, `columns`: valid lanes along R (K with WS, M with OS) and C. `bank`:
    stationary register of a WS tile. `accumulate`: add to the accumulator rows. `last`: last tile of its command.
    """
    return data.StructLayout({
        "dataflow": 1,
        "serialize": 1,
        "accumulate": 1,
        "resume": 1,
        "last": 1,
        "bank": 1,
        "activation_addr": running_address("activation_addr"),
        "activation_stride": _WIDTHS["activation_stride"],
        "weight_addr": running_address("weight_addr"),
        "weight_stride": _WIDTHS["weight_stride"],
        "acc_addr": running_address("acc_addr"),
        "steps": max(_WIDTHS["m"], _WIDTHS["k"]),
        "rows": range(config.rows + 1),
        "columns": range(config.columns + 1),
    })


def result_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of what becomes of a tile's results: `addr` is the accumulator row of the next, or of row 0 (OS)."""
    return data.StructLayout({
        "addr": running_address("acc_addr"),
        "rows": range(config.rows + 1),
        "accumulate": 1,
        "last": 1,
    })


def tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of the tag that follows a slot through the array; `last`: the last row of its command."""
    return data.StructLayout({"addr": ceil_log2(config.accumulator_rows), "accumulate": 1, "last": 1})


class SlotRequest(wiring.Signature):
    """A request to read one operand slot (directions of the requester); it may change or go away before it is granted.

    Members
    -------
    line : Out(line index), offset : Out(slot of the line)
        Where the slot is.
    count : Out(range(lanes + 1))
        Valid lanes; the others are masked to zero.
    valid : Out(1), ready : In(1)
        Granted when both are high.
    """

    def __init__(self, config: AcceleratorConfig, *, slot_bytes: int, lanes: int):
        self.slot_bytes = slot_bytes
        self.lanes = lanes
        super().__init__({
            "line": Out(ceil_log2(config.scratchpad_lines)),
            "offset": Out(range(config.line_bytes // slot_bytes)),
            "count": Out(range(lanes + 1)),
            "valid": Out(1),
            "ready": In(1),
        })

    @classmethod
    def activation(cls, config: AcceleratorConfig) -> "SlotRequest":
        """Return the signature for activation slots of R lanes."""
        return cls(config, slot_bytes=config.activation_slot_bytes, lanes=config.rows)

    @classmethod
    def weight(cls, config: AcceleratorConfig) -> "SlotRequest":
        """Return the signature for weight slots of C lanes."""
        return cls(config, slot_bytes=config.weight_slot_bytes, lanes=config.columns)
