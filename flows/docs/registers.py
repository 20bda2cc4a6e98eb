"""Makes docs/registers.md from the register table."""

from flows.docs.markdown import bit_ranges, generated_note, table
from hw import isa, regs

__all__ = ["registers_page"]

_INTRODUCTION = f"""AXI4-Lite, 32 bits, a window of {regs.REGISTER_SPACE} bytes.
Access: R read only, RW read and write, W write a one for a pulse, RW1C hardware sets a bit and writing a one clears it.
An access to any other offset, or a write to an R register, is answered with SLVERR.
"""


def registers_page() -> str:
    """Return docs/registers.md."""
    text = ["# Registers\n", generated_note("`hw/regs.py`"), _INTRODUCTION]
    rows = []
    for register in regs.REGISTERS:
        fields = "; ".join(f"**{field.name}** [{bits}] {field.doc}" for bits, field in bit_ranges(register.fields))
        rows.append((f"`{register.offset:#05x}`", f"`{register.name}`", register.access, f"{register.reset:#x}", register.doc,
                     fields))
    text.append(table(("offset", "name", "access", "reset", "meaning", "fields"), rows))
    causes = [(cause.value, cause.name) for cause in isa.ErrorCause]
    text += ["\n## Error causes\n", table(("value", "name"), causes)]
    return "\n".join(text)
