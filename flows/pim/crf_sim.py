"""HBM-PIM's pseudo-channel in this process: its Verilog in Verilator, timing-checked DRAM behind it, a host's commands in."""

import ctypes
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from flows.cache import cached_folder, key_of, repository
from flows.emit import to_verilog
from flows.pim.dram import DRAM_DEFINES, DRAM_HEADER, DramConfigStruct, DramTables, ViolationStruct
from flows.pim.emit import pim_sources
from flows.pim.sim import ONCE_OPTIONS, once_each
from flows.verilated import build_model
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from hw.pim.crf import LANES, HostAccess
from hw.pim.crf_channel import CrfChannel, CrfFault, crf_access_layout
from hw.pim.timing_tables import DramCommand
from sw.pim.dram import DramViolation
from sw.pim.hbm_access import HbmAccess

__all__ = ["CrfHang", "CrfRun", "CrfSession", "CrfSim"]

WATCHDOG_CYCLES = 20_000
_ROWS = 1 << 14
_BYTES = 2 * LANES
_DONE, _HANG, _DRAM, _MODEL = range(4)
_MODULE, _TOP = "heddle_crf", "simulated"
_PORT_HEADER = DRAM_HEADER.with_name("pim_port.h")
_HARNESS = DRAM_HEADER.with_name("crf_channel.cpp")
_INPUTS = (("i_valid", "i__valid", 1), ("rvalid", "dram__rvalid", 1))
_OUTPUTS = {"i_ready": "i__ready", "host_rvalid": "rvalid", "host_rdata": "rdata",
            **{name: name for name in ("fault", "refused", "mode", "idle", "executed")},
            **{name: f"dram__{name}" for name in (
                "row_valid", "row_op", "row_set", "row_bank", "row_whole", "row_row", "row_phase", "col_valid", "col_op",
                "col_set", "col_column", "col_phase", "wdata", "wmask")}}


class CrfHang(RuntimeError):
    """A host's commands came to no end."""


class _Host(ctypes.Structure):
    _fields_ = [("seed", ctypes.c_uint64), ("patience", ctypes.c_uint64), ("stall", ctypes.c_uint32)]


class _Refusal(ctypes.Structure):
    _fields_ = [("access", ctypes.c_uint64), ("fault", ctypes.c_int32), ("unused", ctypes.c_int32)]


class _Run(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_uint64) for name in ("cycles", "taken", "executed", "reads", "refusals")),
                *((name, ctypes.c_int64) for name in ("first_read", "last_read")),
                *((name, ctypes.c_int32) for name in ("stop", "unused"))]


@dataclass(frozen=True, kw_only=True, slots=True)
class CrfRun:
    """What a host's commands did.

    Attributes
    ----------
    reads : list of bytes
        What reads outside of PIM mode gave, in order.
    refusals : list of (int, CrfFault)
        Commands that were refused, by their number.
    instructions : int
        That ran.
    cycles : int
        Of the PIM clock, from the first command until nothing was under way.
    clocks : int
        The same in DRAM clocks.
    dram : Counter of DramCommand
        Banks that each command touched.
    """

    reads: list[bytes]
    refusals: list[tuple[int, CrfFault]]
    instructions: int
    cycles: int
    clocks: int
    dram: Counter[DramCommand]


class CrfSim:
    """The RTL of HBM-PIM's pseudo-channel; emitted and built when a session is first opened.

    Parameters
    ----------
    config : PimConfig
        `pim-hbm` or one like it: timing, interval, cycles of it, and streams (its units) are taken.

    Raises
    ------
    ConfigError
        If the units are not between two banks each.
    """

    def __init__(self, config: PimConfig):
        if config.dram.all_banks != 2 * config.streams:
            raise ConfigError(f"PimConfig.streams must be half of the {config.dram.all_banks} banks, not {config.streams!r}")
        self.config, self.phases = config, config.interval // config.pim_per_burst
        self.layout = crf_access_layout(config.streams)
        self.access_bytes = -(-self.layout.size // 8)

    def _component(self) -> CrfChannel:
        config = self.config
        return CrfChannel(timing=config.dram, interval=config.interval, units=config.streams, phases=self.phases)

    @cached_property
    def verilog(self) -> str:
        """The Verilog, of which the slow steps are cached."""
        def fill(work: Path) -> None:
            component = self._component()
            (work / "top.v").write_text(self._wrapper(component) + to_verilog(component, _MODULE))

        sources = [key_of(str(file.relative_to(repository())), file.read_bytes()) for file in (*pim_sources(), Path(__file__))]
        key = key_of(self.config.to_json(), sources, list(sys.version_info[:3]))
        folder, _ = cached_folder(f"crf-rtl-{self.config.digest()}-{key}", fill)
        return (folder / "top.v").read_text()

    def _wrapper(self, component: CrfChannel) -> str:
        """Return a top module whose ports have the names of the harness."""
        port = component.dram
        widths = {"i_ready": 1, "host_rvalid": 1, "host_rdata": 8 * _BYTES,
                  **{name: len(getattr(component, name)) for name in ("fault", "refused", "mode", "idle", "executed")},
                  **{name: len(getattr(port, name)) for name in _OUTPUTS if hasattr(port, name)}}
        inputs = (*_INPUTS, ("i_payload", "i__payload", self.layout.size), ("rdata", "dram__rdata", len(port.rdata)))
        declared = [f"  input [{width - 1}:0] {name}" for name, _, width in inputs]
        bound = [f"    .\\{port} ({name})" for name, port, _ in inputs]
        absent = []
        for name, of in _OUTPUTS.items():
            declared.append(f"  output [{max(widths[name], 1) - 1}:0] {name}")
            if widths[name]:
                bound.append(f"    .\\{of} ({name})")
            else:
                absent.append(f"  assign {name} = 0;\n")
        return (f"module {_TOP}(\n  input clk,\n  input rst,\n" + ",\n".join(declared) + "\n);\n" + "".join(absent)
                + f"  {_MODULE} channel(\n    .clk(clk),\n    .rst(rst),\n" + ",\n".join(bound) + "\n  );\nendmodule\n")

    @cached_property
    def library(self) -> ctypes.CDLL:
        """The simulator."""
        path, _ = build_model(
            "crf", self.config.digest(), self.verilog, _TOP, waves=None, vpi=False, control=once_each(self.verilog),
            main=_HARNESS, companions=(DRAM_HEADER, _PORT_HEADER),
            defines=(*DRAM_DEFINES, f"-DHEDDLE_ACCESS_BYTES={self.access_bytes}",
                     f"-DHEDDLE_BURST_BYTES={self.config.burst_bytes * self.config.streams}"),
            link=("-shared", "-Wl,-Bsymbolic"), output="libcrf.so", options=ONCE_OPTIONS)
        library = ctypes.CDLL(str(path))
        pointer, i32, u64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint64
        for name, result, arguments in (
            ("create", pointer, [ctypes.POINTER(DramConfigStruct), pointer, i32, pointer, i32, ctypes.POINTER(_Host)]),
            ("destroy", None, [pointer]), ("run", None, [pointer, pointer, u64, ctypes.POINTER(_Run)]),
            ("reads", pointer, [pointer]), ("refusals", ctypes.POINTER(_Refusal), [pointer]),
            ("said", None, [pointer, ctypes.POINTER(ViolationStruct)]), ("counts", ctypes.POINTER(u64), [pointer]),
        ):
            function = getattr(library, f"heddle_crf_{name}")
            function.restype, function.argtypes = result, arguments
        return library

    def open(self, *, stall: float = 0.0, seed: int = 0, watchdog: int = WATCHDOG_CYCLES) -> "CrfSession":
        """Return a new session: a channel after reset, its DRAM zero.

        Parameters
        ----------
        stall : float
            Probability, at most 0.95, with which the host holds a command back in a cycle.
        seed : int
            Of the stalls.
        watchdog : int
            Cycles without progress after which the commands count as hung.

        Raises
        ------
        ToolError
            If the simulator cannot be built.
        """
        if not 0 <= stall <= 0.95:
            raise ValueError(f"stall must be between 0 and 0.95, not {stall!r}")
        return CrfSession(self, _Host(seed, watchdog, int(stall * 2**32)))


class CrfSession:
    """One channel and its DRAM.

    Attributes
    ----------
    memory : ndarray, uint8, (2, rows, bytes of a row)
        The DRAM, even banks first; in a row [column][unit][byte]. Pages of it exist when they are touched.
    """

    def __init__(self, sim: CrfSim, host: _Host):
        config = sim.config
        self.sim = sim
        self._tables = DramTables(config.dram, interval=config.interval, streams=config.streams, rows=_ROWS)
        self._row = config.dram.columns, config.streams, _BYTES
        self.memory: npt.NDArray[np.uint8] = np.zeros((2, _ROWS, np.prod(self._row)), np.uint8)
        self._library = sim.library
        self._handle: int | None = self._library.heddle_crf_create(
            self._tables.config, self._tables.array, len(self._tables.rules), self.memory.ctypes.data, sim.phases, host)

    def row(self, row: int, *, odd: bool = False) -> npt.NDArray[np.float16]:
        """Return a row of the even or the odd banks, a view: (columns, units, 16) float16."""
        return self.memory[int(odd), row].view(np.float16).reshape(*self._row[:2], LANES)

    def run(self, accesses: Sequence[HbmAccess]) -> CrfRun:
        """Do what a host commands, as fast as the channel takes it.

        Raises
        ------
        DramViolation
            If the channel broke a rule of the DRAM.
        CrfHang
            If nothing happens any more.
        """
        if self._handle is None:
            raise ValueError("the session is closed")
        for number, access in enumerate(accesses):
            if access.kind is HostAccess.WR and len(access.data) != _BYTES:
                raise ValueError(f"data of command {number} must be {_BYTES} bytes, not {len(access.data)}")
        packed = np.frombuffer(b"".join(self._packed(access) for access in accesses), np.uint8)
        run, before = _Run(), self._counts()
        self._library.heddle_crf_run(self._handle, packed.ctypes.data, len(accesses), run)
        if run.stop == _DRAM:
            said = ViolationStruct()
            self._library.heddle_crf_said(self._handle, said)
            raise DramViolation(self._tables.text(said))
        if run.stop != _DONE:
            what = "waits for something that does not come" if run.stop == _HANG else "stopped: an assertion failed"
            raise CrfHang(f"the channel {what}, after {run.taken} of {len(accesses)} commands and {run.cycles} cycles")
        data = ctypes.string_at(self._library.heddle_crf_reads(self._handle), _BYTES * run.reads) if run.reads else b""
        refusals = self._library.heddle_crf_refusals(self._handle)[:run.refusals]
        return CrfRun(
            reads=[data[at:at + _BYTES] for at in range(0, len(data), _BYTES)],
            refusals=[(refusal.access, CrfFault(refusal.fault)) for refusal in refusals], instructions=run.executed,
            cycles=run.cycles, clocks=run.cycles * self.sim.phases, dram=self._counts() - before)

    def _packed(self, access: HbmAccess) -> bytes:
        values = {"kind": access.kind, "row": access.row, "column": access.column, "odd": access.odd, "unit": access.unit,
                  "data": int.from_bytes(access.data, "little")}
        word = 0
        for name, field in self.sim.layout:
            if not 0 <= values[name] < 1 << field.width:
                raise ValueError(f"{name} of a command must be between 0 and {(1 << field.width) - 1}, not {values[name]}")
            word |= int(values[name]) << field.offset
        return word.to_bytes(self.sim.access_bytes, "little")

    def _counts(self) -> Counter[DramCommand]:
        totals = self._library.heddle_crf_counts(self._handle)[:len(DramCommand)]
        return Counter({command: total for command, total in zip(DramCommand, totals, strict=True) if total})

    def close(self) -> None:
        """Free the model."""
        if self._handle is not None:
            self._library.heddle_crf_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> "CrfSession":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()
