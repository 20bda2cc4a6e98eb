"""The generated pages are up to date, and say everything that the tables say."""

from pathlib import Path

import pytest

from flows.docs import PAGES, write_pages
from hw import isa, regs

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name):
    assert (DOCS / name).read_text() == PAGES[name](), "run `make docs`"


def test_every_register_opcode_and_descriptor_field_is_listed(tmp_path):
    write_pages(tmp_path)
    registers, instructions = (tmp_path / "registers.md").read_text(), (tmp_path / "isa.md").read_text()
    assert all(f"`{register.name}`" in registers for register in regs.REGISTERS)
    assert all(f"`{opcode.name}`" in instructions for opcode in isa.Opcode)
    assert all(f"`{name}`" in instructions for name in isa.DESTINATIONS if "." in name)
