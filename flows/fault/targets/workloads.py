"""Targets: an array on two tiles, and a program on an accelerator."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from flows.emit import to_rtlil
from flows.fault.targets.array_bench import ArrayBench
from flows.fault.targets.gemm_run import gemm_run
from flows.fault.targets.target import Target, TargetError
from hw.bridge.fault_bench import FaultBench, bus_channels
from hw.bridge.script_host import SCRIPT_STEPS, STEP, Step
from hw.config import AcceleratorConfig, ceil_log2, ceil_power_of_two
from hw.pe import PESpec
from hw.regs import REGISTERS, register
from sw.golden.sequencer import Fault
from sw.perf import predict
from sw.program import Program
from sw.workloads import Workload

__all__ = ["CHECK_CYCLES", "DRAM", "array_operands", "array_target", "mesh_stimuli", "mesh_target", "program_target",
           "workload_target"]

DRAM = "dram.array.array"
"""Path of the memory behind the accelerator in a target of `program_target`."""
_SCRIPT = "host.script"
TILES = 2
CHECK_CYCLES = 8
"""More than a mesh takes from a row of results to the flag that says that it is wrong."""


def array_operands(rows: int, columns: int, *, steps: int = 40, seed: int = 0,
                   width: int = 8) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the operands of an array's tiles, `width` bits each: activations (tiles, steps, R) and weights (tiles, R, C)."""
    rng = np.random.default_rng(seed)
    half = 1 << (width - 1)
    return rng.integers(-half, half, (TILES, steps, rows)), rng.integers(-half, half, (TILES, rows, columns))


def _packed(lanes: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.uint32]:
    """Return lanes (T, n) of `width` bits each as 32-bit words (T, words), lane 0 lowest."""
    bits = (lanes[:, :, None] >> np.arange(width)) & 1
    bits = bits.reshape(len(lanes), -1).astype(np.uint32)
    bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 32))).reshape(len(lanes), -1, 32)
    words: npt.NDArray[np.uint32] = (bits << np.arange(32, dtype=np.uint32)).sum(2, dtype=np.uint32)
    return words


def array_target(rows: int, columns: int, *, steps: int = 40, seed: int = 0, pe: str = "mac", width: int = 8,
                 protection: str = "none") -> Target:
    """Return a weight-stationary mesh that multiplies two random tiles, one after the other.

    A tile takes R slots that load its weights, bottom row first, and `steps` slots that stream activations against them; the
    last results leave R + C cycles later: 112 cycles on an 8×8 array.

    Parameters
    ----------
    rows, columns : int
        R and C, 1 to 256.
    steps : int
        Rows of activations streamed against each tile.
    seed : int
        Of the operands, `array_operands`.
    pe : str
        Processing element, a key of `hw.pe.PE_TYPES`.
    width : int
        Bits of an operand; a psum has 2·width + ⌈log2 R⌉ + 1.
    protection : str
        How the mesh checks itself, as in `hw.array.meshes`: "none", "abft", "residue3", "residue15".

    Raises
    ------
    TargetError
        If there is no such array.
    ConfigError
        If there is no such PE.
    """
    for name, value, low, high in (("rows", rows, 1, 256), ("columns", columns, 1, 256), ("steps", steps, 1, 1 << 16),
                                   ("width", width, 1, 12)):
        if not low <= value <= high:
            raise TargetError(f"{name} of an array must be between {low} and {high}, not {value!r}")
    spec = PESpec(kind=pe, activation_width=width, weight_width=width, psum_width=2 * width + ceil_log2(rows) + 1,
                  dataflows=("ws",))
    activations, weights = array_operands(rows, columns, steps=steps, seed=seed, width=width)
    return mesh_target(spec, activations, weights, name=f"array {rows}x{columns}", protection=protection)


def mesh_target(spec: PESpec, activations: npt.NDArray[np.integer], weights: npt.NDArray[np.integer], *, name: str,
                protection: str = "none") -> Target:
    """Return a weight-stationary mesh that multiplies tiles, one after the other; the netlist is the same whatever they hold.

    Valid are the psums of the slots that stream: row by row of each tile, as many as there are `steps`. A mesh that checks itself
    is idle for R + C + 2 cycles before, after which all its checks are on, and for `CHECK_CYCLES` afterwards, within which the
    last flag comes.

    Parameters
    ----------
    spec : PESpec
        With "ws" among its dataflows.
    activations : (tiles, steps, R) integers
    weights : (tiles, R, C) integers
    name : str
    protection : str
        How the mesh checks itself, as in `hw.array.meshes`.
    """
    rows, columns = weights.shape[1:]
    stimuli, cycles = mesh_stimuli(spec, activations, weights)
    checked = protection != "none"
    if checked:
        lead = rows + columns + 2
        stimuli = {port: np.pad(words, ((lead, CHECK_CYCLES), (0, 0))[:words.ndim]) for port, words in stimuli.items()}
        cycles += lead + CHECK_CYCLES
    psums = tuple(f"psum_{c}" for c in range(columns))
    bench = ArrayBench(spec=spec, rows=rows, columns=columns, protection=protection)
    return Target(
        name=name, rtlil=to_rtlil(bench, "array_bench"), top="array_bench", stimuli=stimuli, cycles=cycles,
        observed=("valid", *psums), valid=dict.fromkeys(psums, "valid"), detected="detected" if checked else None)


def mesh_stimuli(spec: PESpec, activations: npt.NDArray[np.integer],
                 weights: npt.NDArray[np.integer]) -> tuple[dict[str, npt.NDArray[np.uint32]], int]:
    """Return the inputs of a mesh on tiles as of `mesh_target`, by port and cycle, and the cycles to the last result."""
    tiles, steps, rows = activations.shape
    columns = weights.shape[2]
    tile = rows + steps
    cycles = tiles * tile + rows + columns
    lanes = {"activation": np.zeros((cycles, rows), np.int64), "weight": np.zeros((cycles, columns), np.int64)}
    widths = {"activation": spec.activation_width, "weight": spec.weight_width}
    control = {name: np.zeros(cycles, np.uint32) for name in ("select", "load", "load_row", "streams")}
    for index in range(tiles):
        loading, streaming = slice(index * tile, index * tile + rows), slice(index * tile + rows, (index + 1) * tile)
        lanes["weight"][loading] = weights[index, ::-1]
        lanes["activation"][streaming] = activations[index]
        control["load"][loading] = control["streams"][streaming] = 1
        control["load_row"][loading] = np.arange(rows)[::-1]
        bank = index % 2                                # the one that is not loaded multiplies
        control["select"][loading], control["select"][streaming] = 1 - bank, bank
    return {**{port: _packed(values, widths[port]) for port, values in lanes.items()}, **control}, cycles


def _script(config: AcceleratorConfig, program: Program, args: Mapping[str, int] | None, watchdog: int) -> npt.NDArray[np.uint32]:
    """Return what the host plays: what `flows.session.RegisterSession` does to run a program, and reads afterwards."""
    writes = [(f"ARG{index}", value) for index, value in program.argument_values(args).items()]
    writes += [("PROGRAM_ADDR", program.code_addr), ("PROGRAM_LENGTH", len(program.code)), ("WATCHDOG", watchdog),
               ("IRQ_ENABLE", 0b11), ("IRQ_STATUS", 0b11), ("CONTROL", 1)]
    steps = [(Step.WRITE, name, value) for name, value in writes]
    error = next(1 << low for low, field in _fields("STATUS") if field == "error")
    steps += [(Step.WAIT, "STATUS", 0), (Step.EXPECT_NO_ERROR, "STATUS", error)]
    for step, name in ((Step.EXPECT_NO_ERROR, "PROTECT_DETECTED"), (Step.COUNT_CORRECTED, "PROTECT_CORRECTED")):
        if any(known.name == name for known in REGISTERS):
            steps.append((step, name, 0xFFFF_FFFF))
    assert len(steps) < SCRIPT_STEPS
    words = np.zeros((SCRIPT_STEPS, 2), np.uint32)
    for index, (step, name, value) in enumerate(steps):
        packed = STEP.const({"step": step, "addr": register(name).offset, "value": value}).as_value().value
        words[index] = packed & 0xFFFF_FFFF, packed >> 32
    return words


def _fields(name: str) -> list[tuple[int, str]]:
    """Return lowest bit and name of each field of a register."""
    found, low = [], 0
    for field in register(name).fields:
        found.append((low, field.name))
        low += field.width
    return found


def program_target(config: AcceleratorConfig, program: Program, memory: npt.NDArray[np.uint8] | None = None,
                   args: Mapping[str, int] | None = None, *, dram_bytes: int | None = None, watchdog: int = 500) -> Target:
    """Return an accelerator in `hw.bridge.fault_bench.FaultBench` that runs a program.

    All of the DRAM is compared with the run without faults but regions of role "scratch", whose contents mean nothing.

    Parameters
    ----------
    config : AcceleratorConfig
    program : Program
        Compiled for `config`.
    memory : ndarray, uint8, or None
        DRAM from byte 0 with the inputs in place; code and constants are added here. None: no inputs.
    args : mapping of str to int, or None
        The program's arguments.
    dram_bytes : int or None
        Size of the DRAM; by default the least power of two that holds program and inputs.
    watchdog : int
        What the accelerator's watchdog is set to, in cycles without progress. A run hangs a while after it should have spoken.

    Raises
    ------
    ProgramError
        If the program is for another config, does not fit into the memory, or an argument is wrong.
    TargetError
        If the DRAM's size is impossible, or the program stops with an error.
    """
    needed = max(program.memory_bytes, 0 if memory is None else len(memory))
    if dram_bytes is None:
        dram_bytes = max(ceil_power_of_two(needed), 2 * config.beat_bytes)
    if dram_bytes < needed or dram_bytes & (dram_bytes - 1):
        raise TargetError(f"dram_bytes must be a power of two of at least {needed} bytes, not {dram_bytes!r}")
    program.check(config.digest(), dram_bytes)
    script = _script(config, program, args, watchdog)
    try:
        cycles = predict(config, program, args).cycles
    except Fault as fault:
        what = f"{fault.cause.name} at instruction {fault.pc}"
        raise TargetError(f"workload {program.name!r} fails without faults: {what}") from None
    dram = np.zeros(dram_bytes, np.uint8)
    if memory is not None:
        dram[:len(memory)] = memory
    program.place(dram)
    return Target(
        name=program.name, rtlil=to_rtlil(FaultBench(config, dram_bytes=dram_bytes), "fault_bench"), top="fault_bench",
        contents={DRAM: dram.view("<u4").astype(np.uint32).reshape(-1, config.bus_width // 32), _SCRIPT: script},
        limit=16 * cycles + 20_000, watchdog=watchdog + 200, done="done",
        observed_memory={DRAM: _observed(program, dram_bytes, config.beat_bytes)},
        detected="detected", corrected="corrected", violation="violation", environment=("", "dram", "host", "monitor"),
        taps={channel: f"tap_{channel}" for channel in bus_channels(config)})


def _observed(program: Program, dram_bytes: int, beat_bytes: int) -> list[tuple[int, int]]:
    """Return the ranges of DRAM beats that are compared: all but those of scratch regions.

    A region begins at a multiple of 64 bytes and no beat is longer, so a beat that a scratch region ends in has nothing else but
    padding.
    """
    kept = np.ones(dram_bytes // beat_bytes, bool)
    for region in program.regions:
        if region.role == "scratch":
            kept[region.addr // beat_bytes:-(-(region.addr + region.size) // beat_bytes)] = False
    edges = np.flatnonzero(np.diff(np.concatenate(([False], kept, [False]))))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def workload_target(config: AcceleratorConfig, workload: Workload, *, gemm: int | str = 0, seed: int = 0, dataflow: str = "auto",
                    text: str | None = None) -> Target:
    """Return an accelerator that runs one GEMM of a workload.

    Parameters
    ----------
    config : AcceleratorConfig
    workload : Workload
        Named, or of `sw.workloads.gemm_workload`.
    gemm : int or str
        Which of its GEMMs: index or name.
    seed : int
        Of random operands.
    dataflow : str
        "ws", "os" or "auto".
    text : str or None
        Input of a workload on real text.

    Raises
    ------
    TargetError
        If the workload has no such GEMM.
    """
    run = gemm_run(config, workload, gemm=gemm, seed=seed, dataflow=dataflow, text=text)
    return program_target(config, run.program, run.memory, run.args)
