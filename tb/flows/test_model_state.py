"""The header that lists where a model keeps its state."""

import pytest

from flows.model_state import state_header
from flows.toolchain import ToolError

SYMS = """class alignas(VL_CACHE_LINE_BYTES) Vtop__Syms final : public VerilatedSyms {
  public:
    // INTERNAL STATE
    Vtop* const __Vm_modelp;

    // MODULE INSTANCE STATE
    Vtop___024root                 TOP;
    Vtop_row                       TOP__a__DOT__row_0;
    Vtop_row                       TOP__a__DOT__row_1;

    // CONSTRUCTORS
    Vtop__Syms(VerilatedContext* contextp, const char* namep, Vtop* modelp);
};
"""
ROOT = """class alignas(VL_CACHE_LINE_BYTES) Vtop___024root final {
  public:
    // CELLS
    Vtop_row* __PVT__a__DOT__row_0;
    Vtop_row* __PVT__a__DOT__row_1;

    // DESIGN SPECIFIC STATE
    VL_IN8(clk,0,0);

    // INTERNAL VARIABLES
    Vtop__Syms* vlSymsp;
"""
ROW = """class alignas(VL_CACHE_LINE_BYTES) Vtop_row final {
  public:

    // DESIGN SPECIFIC STATE
    CData/*7:0*/ state;

    // INTERNAL VARIABLES
    Vtop__Syms* vlSymsp;
"""


def test_the_state_of_every_instance_is_listed_without_its_pointers(tmp_path):
    for name, text in (("Vtop__Syms", SYMS), ("Vtop___024root", ROOT), ("Vtop_row", ROW)):
        (tmp_path / f"{name}.h").write_text(text)
    visits = [line.strip() for line in state_header(tmp_path).splitlines() if "visit(re" in line]
    first = "offsetof(Vtop___024root, __PVT__a__DOT__row_1) + sizeof(void*)"
    rows = [f"&model.TOP__a__DOT__row_{index}), 0, offsetof(Vtop_row" for index in (0, 1)]
    assert visits == [f"visit(reinterpret_cast<uint8_t*>({text}, vlSymsp));"
                      for text in (f"&model.TOP), {first}, offsetof(Vtop___024root", *rows)]


def test_another_verilator_is_refused(tmp_path):
    (tmp_path / "Vtop__Syms.h").write_text(SYMS.replace("MODULE INSTANCE STATE", "INSTANCES"))
    with pytest.raises(ToolError, match=r"^Vtop__Syms\.h must list the module instances of a model: this version of Verilator"):
        state_header(tmp_path)
