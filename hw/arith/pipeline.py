"""Pipeline registers: a value some enabled cycles later."""

from amaranth import *

__all__ = ["registered"]


def registered(m: Module, enable: Value, value: Value, name: str, stages: int = 1) -> Value:
    """Return `value` as it was `stages` cycles with `enable` high before; no reset.

    Parameters
    ----------
    m : Module
        Gets the registers, called `name` and a number.
    enable : Value
        0 holds them.
    value : Value
    name : str
    stages : int
        0 gives `value` itself.
    """
    value = Value.cast(value)
    for stage in range(1, stages + 1):
        register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=True)
        with m.If(enable):
            m.d.sync += register.eq(value)
        value = register
    return value
