"""Memories of a design: inferred from the Verilog, or instances of macros that an ASIC flow puts in their place."""

from dataclasses import dataclass, field
from typing import Any

from flows.emission.pieces import MemoryArray
from hw.share import EmissionPlatform

__all__ = ["MACRO_BITS", "MemoryPlatform", "macro_models", "macro_name"]

MACRO_BITS = 4096
"""Smallest memory, in bits, that becomes a macro."""


def macro_name(array: MemoryArray) -> str:
    """Return the module name of the macro: depth × width, `e` write enables if several, `new` if it reads what it writes."""
    name = f"heddle_ram_{array.depth}x{array.width}"
    return name + (f"_e{array.enables}" if array.enables > 1 else "") + ("_new" if array.transparent else "")


@dataclass(kw_only=True)
class MemoryPlatform(EmissionPlatform):
    """Notes every memory; with `macros`, those with one write and one synchronous read port, and no contents, become instances.

    Attributes
    ----------
    macros : bool
        Whether to instantiate macros.
    macro_bits : int
        Smallest memory that becomes one.
    used : dict of str to MemoryArray
        Macro → what it must do.
    """

    macros: bool = False
    macro_bits: int = MACRO_BITS
    used: dict[str, MemoryArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start without blocks."""
        super().__init__()

    def memory_of(self, fragment: Any, label: str) -> MemoryArray | None:
        """Return what stands for a memory in a module, or None for any other part."""
        from amaranth.hdl import Instance
        from amaranth.lib.memory import Memory

        memory = next((origin for origin in fragment.origins or () if isinstance(origin, Memory)), None)
        if memory is None:
            return None
        return _describe(memory, label, style=fragment.type if isinstance(fragment, Instance) else "inferred")

    def get_memory(self, memory: Any) -> Any:
        """Return what a memory becomes; called by Amaranth."""
        from amaranth.hdl import ClockSignal, Instance

        array = _describe(memory, "", style="inferred")
        reads, writes = memory.read_ports, memory.write_ports
        fits = (self.macros and array.depth * array.width >= self.macro_bits and len(reads) == len(writes) == 1
                and reads[0].domain == writes[0].domain == "sync" and not any(memory.init))
        if not fits:
            return memory.elaborate(None)
        (read,), (write,), name = reads, writes, macro_name(array)
        self.used[name] = array
        return Instance(name, i_clk=ClockSignal(), i_read_en=read.en, i_read_addr=read.addr, o_read_data=read.data,
                        i_write_en=write.en, i_write_addr=write.addr, i_write_data=write.data)


def _describe(memory: Any, label: str, *, style: str) -> MemoryArray:
    from amaranth.hdl import Shape

    return MemoryArray(
        name=label, depth=memory.depth, width=Shape.cast(memory.shape).width, write_ports=len(memory.write_ports),
        read_ports=len(memory.read_ports), enables=max((len(port.en) for port in memory.write_ports), default=0),
        transparent=any(port.transparent_for for port in memory.read_ports), style=style)


_MODEL = """\
// {depth} words of {width} bits, one write port, one read port; read_data is the word of the cycle before in which
// read_en was high, and holds until the next. A word that is read and written in the same cycle gives its {which} contents.
// Contents are undefined until written.
module {name} (
  input  wire clk,
  input  wire read_en,
  input  wire [{addr}:0] read_addr,
  output reg  [{data}:0] read_data,
  input  wire [{en}:0] write_en,
  input  wire [{addr}:0] write_addr,
  input  wire [{data}:0] write_data
);
  reg [{data}:0] contents [0:{last}];
  integer i;
  always @(posedge clk) begin
    for (i = 0; i < {enables}; i = i + 1)
      if (write_en[i])
        contents[write_addr][i * {part} +: {part}] <= write_data[i * {part} +: {part}];
{read}  end
endmodule
"""
_READ_OLD = """\
    if (read_en)
      read_data <= contents[read_addr];
"""
_READ_NEW = """\
    if (read_en) begin
      read_data <= contents[read_addr];
      for (i = 0; i < {enables}; i = i + 1)
        if (write_en[i] && write_addr == read_addr)
          read_data[i * {part} +: {part}] <= write_data[i * {part} +: {part}];
    end
"""


def macro_models(used: dict[str, MemoryArray]) -> str:
    """Return behavioural Verilog of the macros, which an ASIC flow replaces by wrappers of its SRAM."""
    texts = ["// Behavioural models of the memories; for synthesis, give modules of the same names and ports that hold SRAM.\n"]
    for name, array in used.items():
        part = array.width // array.enables
        read = (_READ_NEW if array.transparent else _READ_OLD).format(enables=array.enables, part=part)
        addr = max(0, (array.depth - 1).bit_length() - 1)
        texts.append(_MODEL.format(name=name, depth=array.depth, width=array.width, addr=addr,
                                   data=array.width - 1, en=array.enables - 1, last=array.depth - 1, enables=array.enables,
                                   part=part, read=read, which="new" if array.transparent else "old"))
    return "\n".join(texts)
