"""Estimates of speed per area and energy per MAC, from a synthesis, predicted cycles and coefficients of the process."""

from dataclasses import dataclass
from typing import Any

from flows.synth.technology import Technology
from hw.config import AcceleratorConfig
from sw.generate import CompiledModel, arguments
from sw.golden.llama import LlamaConfig
from sw.kernels.gemm import gemm_code
from sw.mapper import choose_plan, estimate
from sw.perf import MemoryModel, predict, predict_code
from sw.workloads import Workload

__all__ = ["Work", "efficiency", "token_work", "work_of"]

ACCUMULATOR_ACCESSES = 2
"""A result row is read and written again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a workload asks of a config.

    Attributes
    ----------
    tokens : int
        Rows of activations of its widest GEMM that is not batched; of a language model, tokens.
    macs, cycles : int
        MACs are those of the shapes, without what they are padded to.
    matrix_cycles : int
        Cycles in which the matrix engine has a command.
    bytes_moved : int
        Read and written over the bus.
    """

    tokens: int
    macs: int
    cycles: int
    matrix_cycles: int
    bytes_moved: int


def work_of(config: AcceleratorConfig, workload: Workload, memory: MemoryModel | None = None) -> Work:
    """Return the predicted work of a workload, GEMM after GEMM.

    Raises
    ------
    ValueError
        If its shapes are not known before it runs, or a GEMM cannot be mapped.
    """
    if not workload.shapes:
        raise ValueError(f"--workload must be one whose GEMMs are known before it runs, not {workload.name!r}")
    macs = cycles = busy = moved = 0
    for _, spec in workload.specs(config):
        plan = choose_plan(config, spec, memory)
        prediction = predict_code(config, gemm_code(config, plan), {}, memory)
        macs, cycles, busy = macs + spec.macs, cycles + prediction.cycles, busy + prediction.busy["matrix"]
        moved += round(estimate(config, plan, memory).beats) * config.beat_bytes + spec.batch * spec.m * spec.n
    tokens = max(spec.m for _, spec in workload.shapes if spec.batch == 1 or len(workload.shapes) == 1)
    return Work(tokens=tokens, macs=macs, cycles=cycles, matrix_cycles=busy, bytes_moved=moved)


def token_work(compiled: CompiledModel, position: int, memory: MemoryModel | None = None) -> Work:
    """Return the predicted work of a language model's token after `position` others, logits included.

    Of DRAM, it counts weights and the cache's share up to that token, each once; what a layer hands to the next is not counted.

    Raises
    ------
    ValueError
        If the cache holds no such position.
    """
    if not 0 <= position < compiled.context:
        raise ValueError(f"--position must be between 0 and {compiled.context - 1}, not {position}")
    prediction = predict(compiled.config, compiled.decode, arguments(compiled.decode, position, 1), memory)
    cache = compiled.memory.regions["cache"][1] * (position + 1) // compiled.memory.context
    return Work(tokens=1, macs=_token_macs(compiled.model, position), cycles=prediction.cycles,
                matrix_cycles=prediction.busy["matrix"], bytes_moved=compiled.weight_bytes + cache)


def _token_macs(model: LlamaConfig, position: int) -> int:
    """Return the MACs of one token after `position` others: every matrix once, scores and sums over the cache, logits."""
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    layer = model.hidden * (2 * queries + 2 * keys + 3 * model.ffn) + 2 * (position + 1) * queries
    return model.layers * layer + model.hidden * model.vocab


def efficiency(config: AcceleratorConfig, synthesis: dict[str, Any], work: Work, coefficients: Technology) -> dict[str, Any]:
    """Return the estimates; null where the synthesis lacks what they need (a library, OpenSTA).

    Parameters
    ----------
    config : AcceleratorConfig
    synthesis : dict
        Result of `flows.synth.asic.synthesize`.
    work : Work
    coefficients : Technology

    Returns
    -------
    dict
        `mhz` and `mhz_source`; `mm2` and its parts; `utilization`; `gmacs`, `gmacs_per_mm2` (sustained) and `peak_gmacs_per_mm2`;
        `tokens_per_second`, `tokens_per_second_per_mm2`; `pj_per_mac` and its parts `logic`, `sram`, `dram`.
    """
    physical = synthesis["area_unit"] == "um2"
    mhz, source = _clock(synthesis)
    logic_mm2, sram_mm2 = (synthesis[key] / 1e6 if physical else None for key in ("area", "memory_area"))
    mm2 = logic_mm2 + sram_mm2 if logic_mm2 is not None and sram_mm2 is not None else None
    per_cycle = work.macs / work.cycles
    gmacs = per_cycle * mhz / 1e3 if mhz else None
    tokens = work.tokens * mhz * 1e6 / work.cycles if mhz else None
    energy = _energy(config, synthesis, work, coefficients)
    known = [part for part in energy.values() if part is not None]
    return {
        "mhz": mhz, "mhz_source": source, "mm2": mm2, "logic_mm2": logic_mm2, "sram_mm2": sram_mm2,
        "utilization": per_cycle / config.peak_macs_per_cycle, "gmacs": gmacs, "gmacs_per_mm2": _ratio(gmacs, mm2),
        "peak_gmacs_per_mm2": _ratio(config.peak_macs_per_cycle * mhz / 1e3 if mhz else None, mm2),
        "macs_per_mm2": _ratio(float(config.peak_macs_per_cycle), mm2),
        "tokens_per_second": tokens, "tokens_per_second_per_mm2": _ratio(tokens, mm2),
        "pj_per_mac": sum(known) if len(known) == len(energy) else None, "pj_per_mac_parts": energy,
    }


def _ratio(value: float | None, area: float | None) -> float | None:
    return value / area if value is not None and area else None


def _clock(synthesis: dict[str, Any]) -> tuple[float | None, str]:
    """Return the clock in MHz: what was asked for where it holds, else what timing allows."""
    asked = 1000 / synthesis["clock_ns"] if synthesis["clock_ns"] else None
    if asked is None:
        return None, "no timing without a cell library"
    if synthesis["fmax_mhz"] is not None:
        return (asked, "asked, met") if synthesis["fmax_mhz"] >= asked else (synthesis["fmax_mhz"], "OpenSTA")
    found = synthesis["estimated_fmax_mhz"]
    return (asked, "asked, no timing") if found is None or found >= asked else (found, "logic depth")


def _energy(config: AcceleratorConfig, synthesis: dict[str, Any], work: Work,
            coefficients: Technology) -> dict[str, float | None]:
    """Return pJ per MAC of logic, on-chip memory and DRAM."""
    power = synthesis["power_mw"]
    logic = power["total"] * synthesis["clock_ns"] * work.cycles / work.macs if power else None     # mW · ns = pJ a cycle
    operands = config.rows * config.activation.bits + config.columns * config.acc_width * ACCUMULATOR_ACCESSES
    bits = work.matrix_cycles * operands + work.bytes_moved * 8
    on_silicon = synthesis["area_unit"] == "um2"
    return {"logic": logic, "sram": bits * coefficients["sram_energy"] / work.macs if on_silicon else None,
            "dram": work.bytes_moved * 8 * coefficients["dram_energy"] / work.macs}
