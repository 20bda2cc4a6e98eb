"""What every processing element is to the array around it: its ports, its pipeline registers, its place in time."""

from abc import abstractmethod
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import DATAFLOWS
from hw.errors import ConfigError

__all__ = ["PE", "pe_control_layout"]


def pe_control_layout(dataflows: tuple[str, ...]) -> data.StructLayout:
    """Return the layout of the control word that travels through a row together with its activation.

    With "ws": `select` says which of the two stationary weights multiplies; `load` lets the other one take the weight
    on the port. With "os": `accumulate` adds the product of this slot into the accumulator, `first` clears the
    accumulator before that, `last` copies the new sum into the drain register, `shift` moves the drain chain down by
    one row. `first` and `last` come only with `accumulate`; `shift` may come with any of the three.
    """
    fields: dict[str, int] = {}
    if "ws" in dataflows:
        fields |= {"select": 1, "load": 1}
    if "os" in dataflows:
        fields |= {"accumulate": 1, "first": 1, "last": 1, "shift": 1}
    return data.StructLayout(fields)


class PE(wiring.Component):
    """One processing element: multiplies, adds, and passes its operands on.

    Time is counted in *slots*: one control word with one activation and one weight. A PE acts on a slot in the cycle in which
    the slot is on its ports (initiation interval 1), and everything leaves it one cycle later. In a mesh PE(r, c) therefore
    meets slot s in cycle s + r + c, and in slot time the whole array acts at once.

    A subclass implements `compute`, which drives `psum_out`; the registers that pass operands on are made here.

    Parameters
    ----------
    activation_width, weight_width : int
        Bits of an activation and of a weight, two's complement.
    psum_width : int
        Bits of a psum, two's complement; the configuration chooses it so that no sum overflows.
    dataflows : tuple of str
        Any of "ws" and "os": what must be built.

    Members
    -------
    activation, weight, psum, control : In
        Operands from the left, from above and from above, and the slot's control word, from the left.
    activation_out, control_out : Out
        To the right, one cycle later.
    weight_out : Out
        Downwards, one cycle later.
    psum_out : Out(signed(psum_width))
        Downwards, one cycle later. Weight-stationary slot: psum + activation · selected weight. Slot with `shift`: the drain
        register, which takes psum instead. Undefined after other slots.

    Raises
    ------
    ConfigError
        If a width or a dataflow is impossible for this kind of PE.
    """

    def __init__(self, *, activation_width: int, weight_width: int, psum_width: int, dataflows: tuple[str, ...]):
        for name, width in (("activation_width", activation_width), ("weight_width", weight_width)):
            if width < 1:
                raise ConfigError(f"{type(self).__name__}.{name} must be at least 1, not {width!r}")
        least = activation_width + weight_width
        if psum_width < least:
            raise ConfigError(f"{type(self).__name__}.psum_width must be at least {least} (a product), not {psum_width!r}")
        if not dataflows or any(dataflow not in DATAFLOWS for dataflow in dataflows):
            raise ConfigError(f"{type(self).__name__}.dataflows must be a non-empty choice of 'ws' and 'os', not {dataflows!r}")
        self.activation_width = activation_width
        self.weight_width = weight_width
        self.psum_width = psum_width
        self.dataflows = dataflows
        control = pe_control_layout(dataflows)
        super().__init__({
            "activation": In(signed(activation_width)),
            "weight": In(signed(weight_width)),
            "psum": In(signed(psum_width)),
            "control": In(control),
            "activation_out": Out(signed(activation_width)),
            "weight_out": Out(signed(weight_width)),
            "psum_out": Out(signed(psum_width)),
            "control_out": Out(control),
        })

    @abstractmethod
    def compute(self, m: Module) -> None:
        """Add to `m` what turns a slot into `psum_out`."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for name in ("activation", "weight", "control"):
            port = getattr(self, name)
            # Without reset: garbage runs ahead of the first slot in slot time, and is never put to use.
            held = Signal.like(Value.cast(port), name=f"{name}_held", reset_less=True)
            m.d.sync += held.eq(port)
            m.d.comb += getattr(self, f"{name}_out").eq(held)
        self.compute(m)
        return m
