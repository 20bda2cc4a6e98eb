"""A vector command, the definition: what it does to the scratchpad, or where and why it stops."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import ErrorCause, VectorOp
from sw.golden.vector.requantize import requantize

__all__ = ["VectorCommandError", "run_vector"]


class VectorCommandError(ValueError):
    """A vector command broke a rule; everything before the first violation has been done.

    Attributes
    ----------
    cause : ErrorCause
    addr : int
        Address, row, size or operation at fault.
    """

    def __init__(self, cause: ErrorCause, addr: int):
        super().__init__(f"{cause.name.lower()} at {addr:#x}")
        self.cause, self.addr = cause, addr


def run_vector(config: AcceleratorConfig, command: Mapping[str, int], scratchpad: npt.NDArray[np.uint8],
               accumulator: npt.NDArray[np.int32]) -> None:
    """Do one vector command in place.

    Parameters
    ----------
    config : AcceleratorConfig
    command : mapping of str to int
        Every field of `DESCRIPTORS[Unit.VECTOR]`.
    scratchpad : (scratchpad_bytes,) uint8
        Written.
    accumulator : (accumulator_rows, columns) int32
        Only read.

    Raises
    ------
    VectorCommandError
    """
    for cause, value in _violations(config, command):
        raise VectorCommandError(cause, value)
    per_group = config.columns
    for group in range(ceil_div(command["n"], per_group)):
        columns = min(per_group, command["n"] - group * per_group)
        bias: npt.NDArray[np.int32] = np.zeros(columns, np.int32)
        scale: npt.NDArray[np.float32] = np.full(columns, command["scale"], np.uint32).view(np.float32)
        if command["bias_en"]:
            bias = _parameters(config, scratchpad, command["bias_addr"], group)[:columns].view(np.int32)
        if command["per_channel"]:
            scale = _parameters(config, scratchpad, command["scale_addr"], group)[:columns].view(np.float32)
        for m in range(command["m"]):
            row = command["acc_addr"] + group * command["acc_tile_stride"] + m
            addr = command["addr"] + m * command["stride"] + group * config.output_slot_bytes
            if row >= len(accumulator):
                raise VectorCommandError(ErrorCause.ACCUMULATOR_RANGE, row)
            if addr >= len(scratchpad):
                raise VectorCommandError(ErrorCause.SCRATCHPAD_RANGE, addr)
            result = requantize(accumulator[row, :columns], scale=scale, bias=bias, relu=bool(command["relu"]))
            scratchpad[addr:addr + columns] = result.view(np.uint8)


def _violations(config: AcceleratorConfig, command: Mapping[str, int]) -> Iterator[tuple[ErrorCause, int]]:
    if command["op"] != VectorOp.REQUANTIZE:
        yield ErrorCause.UNSUPPORTED, command["op"]
    for name in ("m", "n"):
        if command[name] == 0:
            yield ErrorCause.BAD_SIZE, 0
    for name, used, unit in (("addr", 1, config.output_slot_bytes), ("stride", 1, config.output_slot_bytes),
                             ("bias_addr", command["bias_en"], config.line_bytes),
                             ("scale_addr", command["per_channel"], config.line_bytes)):
        if used and command[name] % unit:
            yield ErrorCause.MISALIGNED, command[name]


def _parameters(config: AcceleratorConfig, scratchpad: npt.NDArray[np.uint8], addr: int, group: int) -> npt.NDArray[np.uint32]:
    """Return the 32-bit words of a group's parameter slot: (columns,) uint32; whole lines must lie in the scratchpad."""
    base = addr + group * config.parameter_slot_bytes
    for line in range(base, base + 4 * config.columns, config.line_bytes):
        if line >= len(scratchpad):
            raise VectorCommandError(ErrorCause.SCRATCHPAD_RANGE, line)
    return scratchpad[base:base + 4 * config.columns].copy().view("<u4")
