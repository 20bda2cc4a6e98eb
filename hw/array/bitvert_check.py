"""Which matrix commands the BitVert engine takes."""

from amaranth import *
from amaranth.lib import data

from hw.array.commands import Rule, misaligned, packed_rules
from hw.config import AcceleratorConfig
from hw.engines.bitvert import bitvert_piece_bytes
from hw.isa import ErrorCause

__all__ = ["bitvert_rules"]


def bitvert_rules(config: AcceleratorConfig, command: data.View) -> list[Rule]:
    """Return the rules of a command; the first one that is broken counts."""
    plain_slot, column_slot = config.weight_slot_bytes, 2 * config.columns
    rules = [*packed_rules(command), (command.mode > len(config.weight_formats), ErrorCause.UNSUPPORTED, command.mode)]
    plain = command.mode == 0
    for name in ("activation_addr", "activation_stride"):
        rules.append(misaligned(command[name], bitvert_piece_bytes(config)))
    for name in ("weight_addr", "weight_stride", "weight_tile_stride"):
        broken = (command[name] & (plain_slot - 1)) != 0
        if name == "weight_stride":
            broken = plain & broken
        else:
            broken = broken | (~plain & ((command[name] & (column_slot - 1)) != 0))
        rules.append((broken, ErrorCause.MISALIGNED, command[name]))
    return rules
