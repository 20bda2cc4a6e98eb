"""Small memories of units, such as those of FIFOs, that parity or SECDED may protect."""

from typing import Any

from amaranth import *
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import memory

from hw.protect.domains import NONE
from hw.protect.guard import StorageGuard
from hw.protect.words import CodedWords, WordEncoder, storage_code

__all__ = ["ProtectedStorage", "storage", "use"]


class _Port:
    """A write port: `addr`, `data`, `en`; or a read port, which has `used` and `taken` too (see `use`)."""

    def __init__(self, shape: ShapeLike, depth: int, name: str):
        self.addr = Signal(range(depth), name=f"{name}_addr")
        self.data = Signal(shape, name=f"{name}_data")
        self.en = Signal(name=f"{name}_en", init=name.startswith("read"))
        self.used = Signal(name=f"{name}_used")
        self.taken = Signal(name=f"{name}_taken")


class ProtectedStorage(Elaboratable):
    """What `amaranth.lib.memory.Memory` is, as far as small memories need it, with a code around it.

    The code adds nothing to the latency. A payload is encoded when it is written and decoded when it is read; `use` says when
    what is read counts. Nothing is written back: what goes through a FIFO is not there for long.

    Parameters
    ----------
    shape : ShapeLike
        Shape of a row.
    depth : int
        Rows.
    mechanism : str
        "parity" or "secded".
    """

    def __init__(self, *, shape: ShapeLike, depth: int, mechanism: str):
        self.shape = shape
        self.depth = depth
        self.code: CodedWords = storage_code(mechanism, Shape.cast(shape).width)
        self._writes: list[_Port] = []
        self._reads: list[tuple[_Port, str]] = []

    def write_port(self) -> _Port:
        """Return a new write port."""
        self._writes.append(_Port(self.shape, self.depth, f"write_{len(self._writes)}"))
        return self._writes[-1]

    def read_port(self, *, domain: str = "sync") -> _Port:
        """Return a new read port; it is not transparent."""
        port = _Port(self.shape, self.depth, f"read_{len(self._reads)}")
        self._reads.append((port, domain))
        return port

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.array = array = memory.Memory(shape=self.code.coded_width, depth=self.depth, init=[])
        for index, port in enumerate(self._writes):
            m.submodules[f"encoder_{index}"] = encoder = WordEncoder(self.code)
            write = array.write_port()
            m.d.comb += [
                encoder.data.eq(port.data),
                write.addr.eq(port.addr),
                write.data.eq(encoder.coded),
                write.en.eq(port.en),
            ]
        for index, (port, domain) in enumerate(self._reads):
            m.submodules[f"guard_{index}"] = guard = StorageGuard(self.code)
            read = array.read_port(domain=domain)
            if domain != "comb":
                m.d.comb += read.en.eq(port.en)
            m.d.comb += [
                read.addr.eq(port.addr),
                guard.loaded.eq(read.data),
                guard.valid.eq(port.used),
                guard.taken.eq(port.taken),
                Value.cast(port.data).eq(guard.o),
            ]
        return m


def storage(mechanism: str, *, shape: ShapeLike, depth: int) -> memory.Memory | ProtectedStorage:
    """Return a small memory of zeros: a plain one if `mechanism` is "none"."""
    if mechanism == NONE:
        return memory.Memory(shape=shape, depth=depth, init=[])
    return ProtectedStorage(shape=shape, depth=depth, mechanism=mechanism)


def use(m: Module, port: Any, used: Any, taken: Any = None) -> None:
    """Say when the data of a read port of a `storage` count.

    Parameters
    ----------
    m : Module
        Gets the statements; none if the port is a plain one.
    port
        What `read_port` returned.
    used : value of 1 bit
        The data on the port are made use of, so that an error in them is one.
    taken : value of 1 bit
        They are for the last time, so that a correction is counted once; `used` if not given.
    """
    if isinstance(port, _Port):
        m.d.comb += [port.used.eq(used), port.taken.eq(used if taken is None else taken)]
