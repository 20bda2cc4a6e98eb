"""The scratchpad: banks of one read and one write port each, shared by fixed priority."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from hw.config import AcceleratorConfig, ceil_log2
from hw.errors import ConfigError
from hw.memory.bank import MemoryBank
from hw.ports import ScratchpadReadPort, ScratchpadWritePort
from hw.protect.memory import ProtectedBank, bank_name, bank_of
from hw.share import shared

__all__ = ["Scratchpad"]

WORD_BITS = {"none": 0, "parity": 8, "secded": 32}
"""Data bits of a word of the code. Parity: a byte, which has a write enable of its own. SECDED: what the vector unit writes at
least, but for the last bytes of a row, so that few writes must merge; 7 check bits for 32 bits, where each byte would need 5."""


class Scratchpad(wiring.Component):
    """Banked scratchpad: in each cycle one read and one write in every bank.

    In each bank and direction the requester with the lowest index wins; `ready` is combinational on the valid and addr of all
    requesters of that direction. Data comes one cycle after the read was accepted. A write accepted in cycle t is seen by reads
    accepted from t + 1 on; a read accepted in t itself still sees the old line. Contents are undefined after power-up and
    survive a reset.

    Protected by SECDED, a write that fills a 32-bit word in part takes the read port of its bank in its cycle, before any reader:
    `ready` of the readers is then combinational on valid, addr and mask of the writers, too.

    Parameters
    ----------
    config : AcceleratorConfig
        Gives `scratchpad_banks` banks, one after the other in the address space, of lines of `line_bytes`.
    readers, writers : int
        Ports of each kind, at least 1.

    Members
    -------
    readers : array of In(ScratchpadReadPort)
    writers : array of In(ScratchpadWritePort)

    Raises
    ------
    ConfigError
        If there is no reader or no writer.
    """

    latency = MemoryBank.latency

    def __init__(self, config: AcceleratorConfig, *, readers: int = 4, writers: int = 2):
        for name, count in (("readers", readers), ("writers", writers)):
            if count < 1:
                raise ConfigError(f"Scratchpad.{name} must be at least 1, not {count!r}")
        self.config = config
        super().__init__({
            "readers": In(ScratchpadReadPort(config)).array(readers),
            "writers": In(ScratchpadWritePort(config)).array(writers),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        lines = config.scratchpad_lines // config.scratchpad_banks
        place = data.StructLayout({"line": ceil_log2(lines), "bank": ceil_log2(config.scratchpad_banks)})
        mechanism = config.protection_of("scratchpad")
        size = config.line_bytes
        name = f"scratchpad_bank_l{lines}_b{size}"
        banks = [bank_of(mechanism, word=WORD_BITS[mechanism], depth=lines, width=8 * size, enables=size)
                 for _ in range(config.scratchpad_banks)]
        for index, bank in enumerate(banks):
            m.submodules[f"bank_{index}"] = shared(platform, bank_name(name, mechanism), bank)
        merging = [bank.merging for bank in banks if isinstance(bank, ProtectedBank) and bank.merges]

        for ports in (self.readers, self.writers):
            places = [data.View(place, port.addr) for port in ports]
            for index, (port, here) in enumerate(zip(ports, places, strict=True)):
                blocked = [other.valid & (there.bank == here.bank)
                           for other, there in zip(ports[:index], places[:index], strict=True)]
                if ports is self.readers and merging:
                    blocked.append(Array(merging)[here.bank])
                m.d.comb += port.ready.eq(port.valid & ~Cat(blocked).any())

        for index, bank in enumerate(banks):
            for port in reversed(self.readers):      # the last assignment wins, so the lowest index does
                here = data.View(place, port.addr)
                with m.If(port.valid & (here.bank == index)):
                    m.d.comb += [bank.read_addr.eq(here.line), bank.read_en.eq(1)]
            for port in reversed(self.writers):
                here = data.View(place, port.addr)
                with m.If(port.valid & (here.bank == index)):
                    m.d.comb += [bank.write_addr.eq(here.line), bank.write_data.eq(port.data), bank.write_en.eq(port.mask)]

        for number, port in enumerate(self.readers):
            chosen = Signal(range(config.scratchpad_banks), name=f"reader_{number}_bank")
            with m.If(port.valid & port.ready):
                m.d.sync += chosen.eq(data.View(place, port.addr).bank)
            m.d.comb += port.data.eq(Array(bank.read_data for bank in banks)[chosen])
        return m
