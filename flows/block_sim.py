"""One block in Verilator, driven with millions of vectors: for tests that try every input.

A block is compiled once (its Verilog and its library stay in the cache) and takes one vector of inputs a cycle; whole arrays go
in and whole arrays come out, so a small block sees millions of vectors a second.

>>> from flows.block_sim import BlockSim
>>> from hw.arith.leading_zeros import LeadingZeroCount
>>> BlockSim(LeadingZeroCount(width=8), "leading_zeros").run({"i": [0, 1, 255]})
{'o': array([8, 7, 0], dtype=uint64)}

Pipelines state how late their outputs are, and what is the same for every vector may be one number:
``BlockSim(IntToFloat(width=32, fmt=FP32), "int_to_float").run({"enable": 1, "i": integers}, latency=IntToFloat.latency)["o"]``.

Ports are called as in the emitted Verilog: ``port``, or ``port__member`` inside an interface, ``port__0`` in an array of ports. A
structured port (a `data.Layout`) is one port, its fields from bit 0 up; `pack_lanes` and `unpack_lanes` make and split words of
many equal fields.
"""

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import flows.emission.verilog
from flows.cache import cached_folder, key_of
from flows.emit import to_rtlil, verilog_of
from flows.toolchain import versions
from flows.verilated import build_model

__all__ = ["BlockSim", "pack_lanes", "unpack_lanes"]

Words = npt.NDArray[Any]
"""(vectors,) integers of a port of up to 64 bits, or (vectors, words) uint64 of a wider one, low word first."""

_HARNESS = Path(__file__).with_name("native") / "block.cpp"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Port:
    name: str
    width: int
    signed: bool

    @property
    def words(self) -> int:
        return -(-self.width // 64)

    @property
    def limits(self) -> tuple[int, int]:
        return (-(1 << self.width - 1), (1 << self.width - 1) - 1) if self.signed else (0, (1 << self.width) - 1)


def _ports(component: Any) -> tuple[list[_Port], list[_Port]]:
    """Return inputs and outputs, without clock and reset; ports without bits are left out, as in Verilog."""
    from amaranth.hdl import Value
    from amaranth.lib.wiring import In

    found: tuple[list[_Port], list[_Port]] = ([], [])
    for path, member, value in component.signature.flatten(component):
        shape = Value.cast(value).shape()
        if shape.width:
            found[member.flow is not In].append(_Port(name="__".join(map(str, path)), width=shape.width, signed=shape.signed))
    return found


def _wrapper(name: str, inputs: list[_Port], outputs: list[_Port]) -> str:
    """Return a top module whose ports have plain names, so that no name of a block means something in C++."""
    ports = [("input", "i", index, port) for index, port in enumerate(inputs)]
    ports += [("output", "o", index, port) for index, port in enumerate(outputs)]
    declared = "".join(f",\n  {way} [{port.width - 1}:0] {letter}{index}" for way, letter, index, port in ports)
    bound = "".join(f",\n    .\\{port.name} ({letter}{index})" for _, letter, index, port in ports)
    return (f"module block_top(\n  input clk,\n  input rst{declared}\n);\n"
            f"  \\{name} block(\n    .clk(clk),\n    .rst(rst){bound}\n  );\nendmodule\n")


def _verilog(component: Any, name: str) -> str:
    """Return the Verilog of `component`; the slow step, from RTLIL on, is cached."""
    rtlil = to_rtlil(component, name)

    def fill(work: Path) -> None:
        (work / "top.v").write_text(verilog_of(rtlil))

    key = key_of(rtlil, versions(), Path(flows.emission.verilog.__file__).read_text())
    folder, _ = cached_folder(f"verilog-{name}-{key}", fill)
    return (folder / "top.v").read_text()


class BlockSim:
    """A block, compiled.

    Parameters
    ----------
    component : wiring.Component
        Of one clock domain, `sync`, or none; no member of its signature may be `always_ready` or `always_valid`.
    name : str
        Module name, and part of the name of the cache's folder.

    Attributes
    ----------
    inputs, outputs : tuple of str
        Names of the ports, without clock and reset.

    Raises
    ------
    ToolError
        If a tool is missing or refuses the Verilog.
    """

    def __init__(self, component: Any, name: str):
        self._inputs, self._outputs = _ports(component)
        self.inputs = tuple(port.name for port in self._inputs)
        self.outputs = tuple(port.name for port in self._outputs)
        verilog = _verilog(component, name)
        lists = {kind: " ".join(f"PORT({index})" for index in range(len(ports)))
                 for kind, ports in (("INPUTS", self.inputs), ("OUTPUTS", self.outputs))}
        library, _ = build_model(
            "block", name, _wrapper(name, self._inputs, self._outputs) + verilog, "block_top", waves=None,
            vpi=False, control="", main=_HARNESS, companions=(),
            defines=(f"-DHEDDLE_CLOCKED={'posedge' in verilog:d}",
                     *(f"-DHEDDLE_{kind}(PORT)={text}" for kind, text in lists.items())),
            link=("-shared", "-Wl,-Bsymbolic"), output="libblock.so")
        self._run = ctypes.CDLL(str(library)).heddle_block_run
        pointers, steps = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_uint64)
        self._run.restype, self._run.argtypes = ctypes.c_int, [pointers, pointers, steps, steps, ctypes.c_uint64, ctypes.c_uint64]

    def run(self, inputs: Mapping[str, npt.ArrayLike], *, latency: int = 0) -> dict[str, Words]:
        """Return what the block makes of each vector of inputs, from reset, one vector a cycle.

        Parameters
        ----------
        inputs : dict of str to array of integers
            Every input port → (vectors,) numbers of any integer type, in the port's range; (vectors, words) uint64 for a port of
            more than 64 bits, low word first; or one integer for all vectors.
        latency : int
            Cycles from inputs to outputs: row i of an output is what it is `latency` cycles after row i of the inputs. After the
            last vector, its inputs stay. 0: outputs of the same cycle, before its clock edge; so with streams, where the caller
            looks at valid and ready himself, row i of inputs and outputs is cycle i.

        Returns
        -------
        dict of str to ndarray
            Output port → (vectors,) uint64, int64 if the port is signed, or (vectors, words) uint64 for more than 64 bits.

        Raises
        ------
        ValueError
            If a port is unknown or missing, lengths differ, a value does not fit its port, or `latency` is negative.
        TypeError
            If an array is not of integers.
        """
        for name in inputs:
            if name not in self.inputs:
                raise ValueError(f"an input port must be one of {', '.join(self.inputs)}, not {name!r}")
        if missing := [name for name in self.inputs if name not in inputs]:
            raise ValueError(f"every input port must have its values, not all but {', '.join(missing)}")
        if latency < 0:
            raise ValueError(f"latency must be 0 or more cycles, not {latency!r}")
        columns = {port.name: _column(port, inputs[port.name]) for port in self._inputs}
        lengths = {name: len(column) for name, column in columns.items() if np.ndim(inputs[name])}
        vectors = next(iter(lengths.values()), 1)
        for name, length in lengths.items():
            if length != vectors:
                raise ValueError(f"{name} must have {vectors} vectors as {next(iter(lengths))} has, not {length}")
        results = {port.name: np.zeros((vectors, port.words), np.uint64) for port in self._outputs}
        if vectors:
            steps = [port.words if port.name in lengths else 0 for port in self._inputs]
            self._call(columns, steps, results, vectors, latency)
        return {port.name: _result(port, results[port.name]) for port in self._outputs}

    def _call(self, columns: dict[str, Words], steps: list[int], results: dict[str, Words], vectors: int, latency: int) -> None:
        def pointers(arrays: Iterable[Words]) -> Any:
            listed = [array.ctypes.data for array in arrays]
            return (ctypes.c_void_p * len(listed))(*listed)

        def numbers(values: Sequence[int]) -> Any:
            return (ctypes.c_uint64 * len(values))(*values)

        if not self._run(pointers(columns.values()), pointers(results.values()), numbers(steps),
                         numbers([port.words for port in self._outputs]), vectors, latency):
            raise RuntimeError("the model stopped: an assertion failed")


def _column(port: _Port, values: npt.ArrayLike) -> Words:
    """Return `values` as (vectors, words) uint64, checked."""
    low, high = port.limits
    if isinstance(values, int) and port.words > 1:
        if not low <= values <= high:
            raise ValueError(f"{port.name} must be between {low} and {high}, not {values}")
        return np.frombuffer((values & (1 << port.width) - 1).to_bytes(8 * port.words, "little"), np.uint64).reshape(1, -1)
    array = np.asarray(values)
    if array.dtype.kind not in "biu":
        raise TypeError(f"{port.name} must be of integers, not {array.dtype}")
    if port.words > 1:
        if array.ndim != 2 or array.shape[1] != port.words or array.dtype != np.uint64:
            raise ValueError(f"{port.name} ({port.width} bits) must be uint64 of shape (vectors, {port.words}), "
                             f"not {array.dtype} of shape {array.shape}")
        above = array[:, -1] >> (port.width % 64) if port.width % 64 else np.zeros(len(array), np.uint64)
        if above.any():
            raise ValueError(f"{port.name} must be between {low} and {high}: vector {above.argmax()} is not")
        return np.ascontiguousarray(array)
    if array.ndim > 1:
        raise ValueError(f"{port.name} ({port.width} bits) must be of shape (vectors,), not {array.shape}")
    array = array.reshape(-1)
    if array.size and not low <= int(array.min()) <= int(array.max()) <= high:
        wrong = next(int(value) for value in array if not low <= value <= high)
        raise ValueError(f"{port.name} must be between {low} and {high}, not {wrong}")
    words = array.astype(np.int64 if array.dtype.kind == "i" else np.uint64).view(np.uint64)
    return np.ascontiguousarray(words & np.uint64((1 << port.width) - 1)).reshape(-1, 1)


def _result(port: _Port, words: Words) -> Words:
    """Return (vectors, words) uint64 as the caller gets it."""
    if port.words > 1:
        return words
    column = words[:, 0]
    if not port.signed:
        return column
    above = 64 - port.width
    return (column << np.uint64(above)).view(np.int64) >> above


def pack_lanes(lanes: npt.NDArray[Any], width: int) -> Words:
    """Return words of many equal fields: the port of a `data.ArrayLayout`.

    Parameters
    ----------
    lanes : (vectors, count) integers
        Lane 0 lies lowest; of each the low `width` bits are taken, so that two's complement needs nothing.
    width : int
        Bits of a lane, 1 to 64.

    Returns
    -------
    (vectors,) uint64, or (vectors, words) if the lanes have more than 64 bits together.
    """
    vectors, count = lanes.shape
    words = np.zeros((vectors, -(-count * width // 64)), np.uint64)
    mask = np.uint64((1 << width) - 1)
    for lane in range(count):
        word, shift = divmod(lane * width, 64)
        value = lanes[:, lane].astype(np.int64 if lanes.dtype.kind == "i" else np.uint64).view(np.uint64) & mask
        words[:, word] |= value << np.uint64(shift)
        if shift + width > 64:
            words[:, word + 1] |= value >> np.uint64(64 - shift)
    return words if words.shape[1] > 1 else words[:, 0]


def unpack_lanes(words: Words, width: int, count: int, *, signed: bool = False) -> Words:
    """Return what `pack_lanes` packed: (vectors, count) uint64, int64 if `signed`, of fields of `width` bits."""
    words = words.reshape(len(words), -1)
    lanes = np.zeros((len(words), count), np.uint64)
    for lane in range(count):
        word, shift = divmod(lane * width, 64)
        lanes[:, lane] = words[:, word] >> np.uint64(shift)
        if shift + width > 64:
            lanes[:, lane] |= words[:, word + 1] << np.uint64(64 - shift)
    above = np.uint64(64 - width)
    lanes <<= above
    return lanes.view(np.int64) >> above.astype(np.int64) if signed else lanes >> above
