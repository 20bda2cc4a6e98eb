"""The outer loops of a matrix command, over groups of outputs and of tokens: what is left, and where the next ones lie."""

from typing import Any

from amaranth import *
from amaranth.lib import data

from hw.array.tile import advance, running_address
from hw.config import AcceleratorConfig, ceil_log2

__all__ = ["OuterLoops"]


class OuterLoops:
    """N in groups of C, and for each of them M in groups of `tokens`.

    No component: registers and statements of the one that cuts commands, which has the loop over K.

    Parameters
    ----------
    config : AcceleratorConfig
    command : View of a matrix descriptor
        Held while its groups last.
    tokens : int
        Of a group; a power of two.

    Attributes
    ----------
    last_n, last_m : Value
        The group is the last of its loop.
    columns, tokens : Value
        Outputs and tokens of the group.
    activation, weight, acc : View of `running_address`
        Where the group's tokens, its weights and its results begin. Addresses advance by adding.
    """

    def __init__(self, config: AcceleratorConfig, command: data.View, *, tokens: int):
        self._command, self._width, self._height = command, config.columns, tokens
        self._n_left, self._m_left = Signal.like(command.n, name="n_left"), Signal.like(command.m, name="m_left")
        self.activation, self.weight, self.acc, self._column_acc = (
            Signal(running_address(field), name=name) for field, name in (
                ("activation_addr", "row"), ("weight_addr", "weight"), ("acc_addr", "acc"), ("acc_addr", "column_acc")))
        self.last_n, self.last_m = self._n_left <= config.columns, self._m_left <= tokens
        self.columns = Mux(self.last_n, self._n_left, config.columns)
        self.tokens = Mux(self.last_m, self._m_left, tokens)

    def begin(self) -> list[Any]:
        """Return what sets the first group."""
        starts = ((self.activation, "activation_addr"), (self.weight, "weight_addr"), (self._column_acc, "acc_addr"),
                  (self.acc, "acc_addr"))
        addresses = [part for address, field in starts
                     for part in (address.value.eq(self._command[field]), address.overflow.eq(0))]
        return [self._n_left.eq(self._command.n), self._m_left.eq(self._command.m), *addresses]

    @property
    def below(self) -> Any:
        """Where the tokens of the next group of M begin."""
        return advance(self.activation, self._command.activation_stride << ceil_log2(self._height))

    @property
    def top(self) -> Value:
        """Where the tokens of the first one begin."""
        return Cat(self._command.activation_addr, C(0, 1))

    def next_m(self) -> list[Any]:
        """Return what sets the next tokens of the same outputs."""
        return [self._m_left.eq(self._m_left - self._height), self.activation.eq(self.below),
                self.acc.eq(advance(self.acc, Const(self._height)))]

    def next_n(self) -> list[Any]:
        """Return what sets the next outputs, and the first tokens."""
        right = advance(self._column_acc, self._command.acc_tile_stride)
        return [self._n_left.eq(self._n_left - self._width), self._m_left.eq(self._command.m), self.activation.eq(self.top),
                self.weight.eq(advance(self.weight, self._command.weight_tile_stride)), self._column_acc.eq(right),
                self.acc.eq(right)]
