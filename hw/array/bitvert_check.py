"""Which matrix commands the BitVert engine takes."""

from amaranth import *
from amaranth.lib import data

from hw.config import AcceleratorConfig
from hw.engines.bitvert import bitvert_piece_bytes
from hw.isa import Dataflow, ErrorCause

__all__ = ["bitvert_rules"]


def bitvert_rules(config: AcceleratorConfig, command: data.View) -> list[tuple[Value, ErrorCause, Value]]:
    """Return (broken, cause, value to report) for each rule of a command; the first one that is broken counts."""
    plain_slot, column_slot = config.weight_slot_bytes, 2 * config.columns
    rules = [
        ((command.m == 0) | (command.n == 0) | (command.k == 0), ErrorCause.BAD_SIZE, Const(0)),
        (command.dataflow != Dataflow.WS, ErrorCause.UNSUPPORTED, command.dataflow),
        (command.serialize, ErrorCause.UNSUPPORTED, command.serialize),
        (command.mode > len(config.weight_formats), ErrorCause.UNSUPPORTED, command.mode),
    ]
    plain = command.mode == 0
    for name in ("activation_addr", "activation_stride"):
        rules.append(((command[name] & (bitvert_piece_bytes(config) - 1)) != 0, ErrorCause.MISALIGNED, command[name]))
    for name in ("weight_addr", "weight_stride", "weight_tile_stride"):
        broken = (command[name] & (plain_slot - 1)) != 0
        if name == "weight_stride":
            broken = plain & broken
        else:
            broken = broken | (~plain & ((command[name] & (column_slot - 1)) != 0))
        rules.append((broken, ErrorCause.MISALIGNED, command[name]))
    return rules
