"""Writes the generated pages of `docs/`: registers, instructions, presets, numerics, host protocol (`python -m flows.docs`)."""

from pathlib import Path

from flows.docs_bridge import bridge_page
from flows.docs_numerics import numerics_page
from flows.markdown import table as _table
from hw import isa, regs
from hw.engines import ENGINES
from hw.presets import PRESETS

__all__ = ["PAGES", "write_pages"]

_REGISTERS_INTRODUCTION = f"""AXI4-Lite, 32 bits, a window of {regs.REGISTER_SPACE} bytes.
Access: R read only, RW read and write, W write a one for a pulse, RW1C hardware sets a bit and writing a one clears it.
An access to any other offset, or a write to an R register, is answered with SLVERR.
"""
_ISA_SIZES = f"""Registers: {isa.REGISTERS} of 32 bits, r0 reads as zero; the {isa.ARGUMENTS} argument registers are copied to
r{isa.FIRST_ARGUMENT} and up at the doorbell. Semaphores: {isa.SEMAPHORES}, each counts to {isa.SEMAPHORE_MAX}.
Loops nest {isa.LOOP_DEPTH} deep.
"""
_NOTE = "*Generated from `{source}` by `make docs`; edit that.*\n"


def _bits(fields: tuple[isa.Field, ...]) -> list[tuple[str, isa.Field]]:
    """Return the bit range of each field, from bit 0 up."""
    ranges, low = [], 0
    for field in fields:
        high = low + field.width - 1
        ranges.append((f"{high}:{low}" if high > low else f"{low}", field))
        low = high + 1
    return ranges


def registers_page() -> str:
    """Return docs/registers.md."""
    text = ["# Registers\n", _NOTE.format(source="hw/regs.py"), _REGISTERS_INTRODUCTION]
    rows = []
    for register in regs.REGISTERS:
        fields = "; ".join(f"**{field.name}** [{bits}] {field.doc}" for bits, field in _bits(register.fields))
        rows.append((f"`{register.offset:#05x}`", f"`{register.name}`", register.access, f"{register.reset:#x}", register.doc,
                     fields))
    text.append(_table(("offset", "name", "access", "reset", "meaning", "fields"), rows))
    causes = [(cause.value, cause.name) for cause in isa.ErrorCause]
    text += ["\n## Error causes\n", _table(("value", "name"), causes)]
    return "\n".join(text)


def isa_page() -> str:
    """Return docs/isa.md."""
    fields = [(bits, f"`{field.name}`", field.doc) for bits, field in _bits(isa.INSTRUCTION_FIELDS)]
    opcodes = [(f"`{op.value:#04x}`", f"`{op.name}`", info.kind, info.doc) for op, info in isa.OPCODES.items()]
    text = ["# Instruction set\n", _NOTE.format(source="hw/isa.py"), (isa.__doc__ or "").split("\n", 2)[2],
            _ISA_SIZES,
            "## Instruction word\n", _table(("bits", "field", "meaning"), fields),
            "\n## Opcodes\n", _table(("value", "name", "kind", "meaning"), opcodes)]
    for unit, descriptor in isa.DESCRIPTORS.items():
        rows = [(isa.destination(unit, field.name), f"`{unit.name.lower()}.{field.name}`", field.width, field.doc)
                for field in descriptor]
        text += [f"\n## Descriptor of the {unit.name.lower()} unit\n", _table(("destination", "field", "bits", "meaning"), rows)]
    return "\n".join(text)


def presets_page() -> str:
    """Return docs/presets.md."""
    names = ("rows", "columns", "weight_format", "acc_width", "psum_width", "scratchpad_bytes", "accumulator_rows", "bus_width",
             "vector_lanes")
    rows = [(f"`{name}`", *(getattr(config, field) for field in names), f"`{config.digest()}`")
            for name, config in PRESETS.items()]
    return "\n".join([
        "# Presets and engines\n", _NOTE.format(source="hw/presets.py and hw/engines.py"),
        _table(("preset", *names, "digest"), rows),
        "\n## Engines\n", _table(("engine", "what", "source"), [(f"`{e.name}`", e.doc, e.source) for e in ENGINES.values()]),
        "\nNumber formats: [numerics](numerics.md).\n",
    ])


PAGES = {"registers.md": registers_page, "isa.md": isa_page, "presets.md": presets_page, "numerics.md": numerics_page,
         "bridge.md": bridge_page}
"""File name in `docs/` → what makes its text."""


def write_pages(folder: Path) -> None:
    """Write every generated page into `folder`."""
    for name, page in PAGES.items():
        (folder / name).write_text(page())


if __name__ == "__main__":
    write_pages(Path(__file__).resolve().parents[1] / "docs")
