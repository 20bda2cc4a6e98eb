"""Makes docs/isa.md from the tables of instructions and descriptors."""

from flows.docs.markdown import bit_ranges, generated_note, table
from hw import isa

__all__ = ["isa_page"]

_SIZES = f"""Registers: {isa.REGISTERS} of 32 bits, r0 reads as zero; the {isa.ARGUMENTS} argument registers are copied to
r{isa.FIRST_ARGUMENT} and up at the doorbell. Semaphores: {isa.SEMAPHORES}, each counts to {isa.SEMAPHORE_MAX}.
Loops nest {isa.LOOP_DEPTH} deep.
"""
_ENUMERATIONS: dict[isa.Unit, tuple[type[isa.DocumentedEnum], ...]] = {
    isa.Unit.MATRIX: (isa.Dataflow,),
    isa.Unit.VECTOR: (isa.VectorSource, isa.StreamUse, isa.RowUse, isa.VectorFunction, isa.VectorOutput),
}


def isa_page() -> str:
    """Return docs/isa.md."""
    fields = [(bits, f"`{field.name}`", field.doc) for bits, field in bit_ranges(isa.INSTRUCTION_FIELDS)]
    opcodes = [(f"`{op.value:#04x}`", f"`{op.name}`", info.kind, info.doc) for op, info in isa.OPCODES.items()]
    text = ["# Instruction set\n", generated_note("`hw/isa.py`"), (isa.__doc__ or "").split("\n", 2)[2],
            _SIZES,
            "## Instruction word\n", table(("bits", "field", "meaning"), fields),
            "\n## Opcodes\n", table(("value", "name", "kind", "meaning"), opcodes)]
    for unit, descriptor in isa.DESCRIPTORS.items():
        rows = [(isa.destination(unit, field.name), f"`{unit.name.lower()}.{field.name}`", field.width, field.doc)
                for field in descriptor]
        text += [f"\n## Descriptor of the {unit.name.lower()} unit\n", table(("destination", "field", "bits", "meaning"), rows)]
        for kind in _ENUMERATIONS.get(unit, ()):
            members = [(member.value, f"`{member.name}`", member.doc) for member in kind]
            text += [f"`{kind.__name__}`:\n", table(("value", "name", "meaning"), members)]
    return "\n".join(text)
