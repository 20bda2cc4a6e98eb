"""From a GEMM to its result: compile it for a config, hand its operands to a session, read its output as a matrix."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.isa import INSTRUCTION_BYTES
from sw.device import Result, Session
from sw.engines import pack_weights, weight_layout
from sw.kernels.case import GemmCase
from sw.kernels.gemm import gemm_arguments, gemm_code
from sw.kernels.plan import Plan
from sw.kernels.spec import GemmSpec
from sw.layout import round_up
from sw.mapper import choose_plan
from sw.perf import MemoryModel
from sw.program import ADDRESS_SPACE, Program, ProgramError, Region

__all__ = ["compile_case", "compile_gemm", "gemm_args", "place_operands", "read_output", "reference_gemm", "run_case", "run_gemm"]

OPERANDS = ("a", "b", "c", "parameters")       # in memory in this order
PAGE = 4096                 # regions start at pages: bursts need not be cut at a 4 KiB boundary more than once a page


def compile_gemm(config: AcceleratorConfig, spec: GemmSpec, *, base: int = 0, b: npt.NDArray[Any] | None = None,
                 bias: npt.NDArray[Any] | None = None, scale: npt.NDArray[Any] | None = None, name: str | None = None,
                 plan: Plan | None = None, memory: MemoryModel | None = None) -> Program:
    """Return the program of a GEMM.

    Parameters
    ----------
    config : AcceleratorConfig
    spec : GemmSpec
    base : int
        First byte of the program's memory, a multiple of 4096.
    b : ndarray or None
        Constant weights (batch, K, N) or (K, N) int8, kept in the program; None if the host places them at run time. They are
        turned to what `spec.b` says. With `spec.weights` (K, N) float32, which are rounded to that format; must be given.
    bias, scale : ndarray or None
        Constant parameters, (N,) int32 and (N,) float32; None if the host places them. With `spec.weights` the scale must be
        given, and biases are in units of the accumulator.
    name : str or None
        Kernel's name; by default its shape.
    plan : Plan or None
        A mapping chosen already.
    memory : MemoryModel or None
        The memory that the mapping is chosen for.

    Raises
    ------
    ValueError
        If the GEMM is impossible, does not fit into 32 bits of address, or a constant does not fit it.
    """
    if base < 0 or base % PAGE:
        raise ProgramError(f"base must be a multiple of {PAGE}, not {base!r}")
    plan = choose_plan(config, spec, memory) if plan is None else plan
    name = name or f"gemm {spec.m}x{spec.n}x{spec.k}" + (f" x{spec.batch}" if spec.batch > 1 else "")
    constants, sizes = {}, {region: layout.size for region, layout in plan.layouts.items()}
    if spec.weights:
        if b is None or scale is None:
            raise ValueError(f"b and scale must be given when {name} is compiled: its weights are in {spec.weights}")
        if b.shape != (spec.k, spec.n) or b.dtype != np.float32 or not np.isfinite(b).all():
            raise ValueError(f"b must be finite float32 of shape ({spec.k}, {spec.n}) for weights in {spec.weights}, "
                             f"not {b.dtype} of {b.shape}")
        constants["b"], units = pack_weights(config, weight_layout(config, spec.n, spec.k, spec.weights), b.T)
        sizes["b"], scale = constants["b"].size, (scale * units).astype(np.float32)
    elif b is not None:
        constants["b"] = plan.layouts["b"].pack(_as_given(spec, "b", b))
    if spec.has_parameters and (bias is not None or scale is not None):
        constants["parameters"] = plan.layouts["parameters"].pack(_parameters(spec, bias, scale, config.float_activations))
    regions, addr = [], base
    for region, size in sorted(sizes.items(), key=lambda item: OPERANDS.index(item[0])):
        role = "output" if region == "c" else "constant" if region in constants else "input"
        if addr + size > ADDRESS_SPACE:
            raise ProgramError(f"{name} must lie within 32 bits of address, but {region} would end at {addr + size:#x}")
        regions.append(Region(name=region, addr=addr, size=size, role=role, data=constants.get(region),
                              layout=plan.layouts.get(region)))
        addr = round_up(addr + size, PAGE)
    code = gemm_code(config, plan)
    if addr + INSTRUCTION_BYTES * len(code) > ADDRESS_SPACE:
        raise ProgramError(f"{name} must lie within 32 bits of address, but its code would start at {addr:#x}")
    return Program(name=name, config_digest=config.digest(), code=code, code_addr=addr, regions=tuple(regions),
                   parity=config.command_parity,
                   arguments={argument: i for i, argument in enumerate(gemm_arguments(plan))}, kernels=((0, name),))


def _as_given(spec: GemmSpec, operand: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return A (…, M, K) or B (…, K, N) as its storage form has it."""
    turned = (spec.a if operand == "a" else spec.b) == "transposed"
    return np.swapaxes(array, -1, -2) if turned else np.asarray(array)


def _parameters(spec: GemmSpec, bias: npt.NDArray[Any] | None, scale: npt.NDArray[Any] | None,
                floating: bool) -> npt.NDArray[np.int32]:
    """Return biases, float32 if they are `floating`, and scales as the two rows of the parameter layout."""
    rows = np.zeros((2, spec.n), np.int32)
    for row, (what, array, dtype, wanted) in enumerate((("bias", bias, np.float32 if floating else np.int32, spec.bias),
                                                        ("scale", scale, np.float32, spec.per_channel))):
        if not wanted:
            continue
        if array is None or np.shape(array) != (spec.n,) or np.asarray(array).dtype != dtype:
            found = "None" if array is None else f"{np.asarray(array).dtype} of {np.shape(array)}"
            raise ValueError(f"{what} must be {np.dtype(dtype)} of shape ({spec.n},), not {found}")
        rows[row] = np.asarray(array).view(np.int32)
    return rows


def place_operands(session: Session, program: Program, spec: GemmSpec, *, a: npt.NDArray[Any], b: npt.NDArray[Any] | None = None,
                   bias: npt.NDArray[Any] | None = None, scale: npt.NDArray[Any] | None = None) -> None:
    """Write the operands that are no constants of `program` into the session's memory.

    Parameters
    ----------
    a, b : ndarray
        (batch, M, K) and (batch, K, N) int8, without the batch where it is 1; they are turned to what `spec` says. Of float16 or
        bfloat16 where the config's activations, or weights, are.
    bias, scale : ndarray
        (N,) int32 (with floating-point activations float32) and (N,) float32.
    """
    arrays: dict[str, npt.NDArray[Any]] = {"a": _as_given(spec, "a", a)}
    inputs = {region.name: region for region in program.regions if region.role == "input"}
    if "b" in inputs:
        if b is None:
            raise ValueError(f"b must be given: it is no constant of program {program.name!r}")
        arrays["b"] = _as_given(spec, "b", b)
    if "parameters" in inputs:
        layout = inputs["a"].layout
        arrays["parameters"] = _parameters(spec, bias, scale, layout is not None and layout.bits == 16)
    for name, array in arrays.items():
        region = inputs[name]
        assert region.layout is not None
        session.memory[region.addr:region.addr + region.layout.size] = region.layout.pack(array)


def gemm_args(program: Program, scale: float | None = None, **addresses: int) -> dict[str, int]:
    """Return a program's arguments: its regions' addresses unless others are given, and the bits of a scale.

    Raises
    ------
    ValueError
        If the program takes one scale for all channels and none is given, or an address is no multiple of 64.
    """
    args = {}
    for name in program.arguments:
        if name == "scale":
            if scale is None:
                raise ValueError(f"scale must be given for program {program.name!r}")
            args[name] = int(np.float32(scale).view(np.uint32))
        else:
            args[name] = addresses.get(name, program.region(name).addr)
            if args[name] % 64:
                raise ValueError(f"address of {name} must be a multiple of 64, not {args[name]!r}")
    return args


def read_output(program: Program, outputs: Mapping[str, npt.NDArray[np.uint8]]) -> npt.NDArray[Any]:
    """Return the result matrix in a run's outputs, (batch, M, N) int8 or float32, without the batch where it is 1."""
    layout = program.region("c").layout
    assert layout is not None
    matrix = layout.unpack(outputs["c"])
    if layout.bits == 32:
        matrix = matrix.view(np.float32)
    return matrix[0] if layout.batch == 1 else matrix


def run_gemm(session: Session, program: Program, spec: GemmSpec, *, a: npt.NDArray[Any], b: npt.NDArray[Any] | None = None,
             bias: npt.NDArray[Any] | None = None, scale: Any = None) -> tuple[npt.NDArray[Any], Result]:
    """Place operands, run, and return the (batch, M, N) int8 or float32 result with the run's Result.

    `scale` is a number for all channels, or with `spec.per_channel` an (N,) float32 array.
    """
    per_channel = scale if spec.per_channel else None
    place_operands(session, program, spec, a=a, b=b, bias=bias, scale=per_channel)
    result = session.run(program, gemm_args(program, None if spec.per_channel else scale))
    return read_output(program, result.outputs), result


def compile_case(config: AcceleratorConfig, case: GemmCase, *, dataflow: str | None = None, base: int = 0,
                 memory: MemoryModel | None = None) -> Program:
    """Return the program of a case: weights given as "packed" and all biases and scales are constants in it."""
    spec = case.spec if dataflow is None else replace(case.spec, dataflow=dataflow)
    return compile_gemm(config, spec, base=base, b=case.b if spec.b == "packed" else None, name=case.name, bias=case.bias,
                        scale=case.scale if spec.per_channel else None, memory=memory)


def run_case(session: Session, program: Program, case: GemmCase) -> tuple[npt.NDArray[Any], Result]:
    """Run a case's program; return its (batch, M, N) result, without the batch where it is 1, and the run's Result."""
    return run_gemm(session, program, case.spec, a=case.a, b=case.b, bias=case.bias, scale=case.scale)


def reference_gemm(a: npt.NDArray[Any], b: npt.NDArray[Any], *, scale: Any, bias: npt.NDArray[Any] | None = None,
                   relu: bool = False, output: str = "int8") -> npt.NDArray[Any]:
    """Return what a GEMM must give where its accumulator does not saturate, by plain int64 numpy.

    (…, M, K) and (…, K, N) integers → (…, M, N) int8 or float32.
    """
    total = a.astype(np.int64) @ b.astype(np.int64)
    if bias is not None:
        total = np.clip(total + bias.astype(np.int64), -(1 << 31), (1 << 31) - 1)
    scaled = total.astype(np.float32) * np.asarray(scale, np.float32)
    result = scaled if output == "float32" else np.clip(np.rint(scaled), -128, 127).astype(np.int8)
    return np.maximum(result, 0) if relu else result
