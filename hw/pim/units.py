"""Which commands a logic die has the units for, as data: hardware, golden models and the checker read the same lists."""

from hw.elements import FloatFormat
from hw.families import ScaledFormat
from hw.formats import format_named
from hw.pim.config import PimConfig
from hw.pim.isa import OPCODES, PimOpcode, Queue

__all__ = ["COPY_OPCODES", "ELEMENTWISE_OPCODES", "IO_OPCODES", "ROW_OPCODES", "SOFTMAX_OPCODES", "missing_unit", "opcodes_of"]

IO_OPCODES = (PimOpcode.WRX, PimOpcode.WRACC, PimOpcode.RDACC)
SOFTMAX_OPCODES = (PimOpcode.MVS, PimOpcode.SFM, PimOpcode.SFO, PimOpcode.MVX, PimOpcode.MRG, PimOpcode.STS, PimOpcode.LDS)
COPY_OPCODES = (PimOpcode.RDCP, PimOpcode.WRCP, PimOpcode.KVAP)
ELEMENTWISE_OPCODES = (PimOpcode.EWMUL, PimOpcode.EWADD)
ROW_OPCODES = (PimOpcode.ACT, PimOpcode.PRE, PimOpcode.REF, PimOpcode.MODE)
_SEQUENCER = tuple(opcode for opcode, info in OPCODES.items() if info.queue is Queue.SEQUENCER)
_EVERYWHERE = (*_SEQUENCER, PimOpcode.MAC, *IO_OPCODES, *ROW_OPCODES)


def missing_unit(config: PimConfig, opcode: PimOpcode) -> str | None:
    """Return why a die cannot carry out a command, in words; None if it can."""
    if opcode in _EVERYWHERE:
        return None
    floats = config.acc == "float32"
    if opcode in SOFTMAX_OPCODES:
        return None if config.has_softmax else "a softmax unit"
    if opcode in COPY_OPCODES:
        return None if config.stores_x else "elements of X as wide as weights"
    if opcode in ELEMENTWISE_OPCODES:
        formats = (config.wtype, config.kvtype, config.xtype, config.ptype)
        return None if floats and all(_is_plain_float(name) for name in formats) else "operands of plain floats and float32 sums"
    if opcode is PimOpcode.WRS:
        return None if config.has_sides else "weights with zero points or special values"
    if opcode is PimOpcode.DQA:
        return None if config.dequantizes else "weights with scales"
    assert opcode is PimOpcode.AF
    return None if floats and _is_plain_float(config.xtype) else "an activation unit, for float32 sums and X of floats"


def opcodes_of(config: PimConfig) -> tuple[PimOpcode, ...]:
    """Return the commands of the queues that a die has the units for; those of the sequencer it has always."""
    return tuple(opcode for opcode in OPCODES if opcode not in _SEQUENCER and missing_unit(config, opcode) is None)


def _is_plain_float(name: str) -> bool:
    """Return whether codes of a format are floats without special values and zero points."""
    fmt = format_named(name)
    return (isinstance(fmt, ScaledFormat) and isinstance(fmt.element, FloatFormat) and not fmt.specials
            and not fmt.zero_point_bits)
