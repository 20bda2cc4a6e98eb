"""The hybrid engine in Verilator, operands never waiting: cycles, utilization of weight stream and array; its area."""

import os
from dataclasses import replace
from typing import Any

import numpy as np

from flows.block_sim import BlockSim
from flows.reproduce.hsa_rates import run_cycles
from flows.synth.asic import synthesize
from flows.synth.generic import GENERIC_NAME
from flows.synth.options import AsicOptions
from hw.array import ENGINES
from hw.config import AcceleratorConfig
from hw.engines.hybrid import MODE_STREAM, command_slots, mesh_cycles, record_bytes
from hw.isa import Unit
from hw.ports import descriptor_layout
from hw.presets import preset_named
from hw.token.angles import AngleSource
from sw.engines import default_weights, engine_runtime, weight_layout
from sw.perf import MemoryModel

__all__ = ["areas", "bandwidths", "engine_cycles", "rows"]

_START = 4              # cycle in which the command is offered
SCALE_SIM = {"ws": 108_288, "os": 38_304}       # 1×768×768 on 16×16, nothing overlapped


def engine_cycles(sim: BlockSim, config: AcceleratorConfig, **fields: int) -> int:
    """Return the cycles of one command from the one in which it is taken to `done`, both included; every read is granted."""
    layout = descriptor_layout(Unit.MATRIX)
    command = layout.const({"acc_tile_stride": 0, **fields}).as_bits()
    limit = int(engine_runtime(config).timing(config).command(0, dict.fromkeys(layout.members, 0) | fields)) + 200
    offered = np.arange(limit) == _START
    inputs: dict[str, Any] = {
        "unit__command__payload": command, "unit__command__valid": offered, "unit__abort": 0, "activation__ready": 1,
        "activation__data": 0, "weight__ready": 1, "weight__data": 0}
    if config.weight_stream:
        inputs |= {"weight_stream__payload": 0, "weight_stream__valid": 1}
    found = sim.run(inputs)
    done = np.flatnonzero(found["unit__done"])
    if len(done) != 1 or found["unit__error"].any():
        raise RuntimeError(f"the command must be done once and without an error, not {len(done)} times")
    return int(done[0]) - _START + 1


def rows() -> list[dict[str, Any]]:
    """Return a row for each command: decode through the stream, prefill, and one token on the systolic presets."""
    table: list[dict[str, Any]] = []
    for size in (16, 32):
        config = preset_named(f"hybrid-{size}x{size}")
        sim = BlockSim(ENGINES["hybrid"](config), f"hybrid_{size}")
        beat = config.beat_bytes
        for n, k in ((768, 768), (1024, 1024), (2048, 2048)):
            cycles = engine_cycles(sim, config, mode=1 | MODE_STREAM, m=1, n=n, k=k)
            beats = command_slots(config, 1, 1, n, k)
            assert beats * beat == n // size * k // 32 * record_bytes(config, 1)
            table.append({"engine": f"hybrid-{size}x{size}", "command": f"1×{n}×{k} mxint4, clusters", "cycles": cycles,
                          "beats": beats, "utilization": beats / cycles})
        for tiles in (100, 200):
            k = 4 * size
            n = tiles * size // (k // size)
            cycles = engine_cycles(sim, config, mode=1 | MODE_STREAM, m=32, n=n, k=k)
            table.append({"engine": f"hybrid-{size}x{size}", "command": f"32×{n}×{k} mxint4, mesh, {tiles} tiles",
                          "cycles": cycles, "beats": mesh_cycles(size, tiles, 32), "utilization": tiles * 32 / cycles})
        plain = preset_named(f"systolic-{size}x{size}")
        systolic = BlockSim(ENGINES["systolic"](plain), f"systolic_{size}")
        for dataflow in (0, 1):
            cycles = engine_cycles(systolic, plain, m=1, n=768, k=768, dataflow=dataflow)
            table.append({"engine": f"systolic-{size}x{size}", "command": f"1×768×768 int8, {('WS', 'OS')[dataflow]}",
                          "cycles": cycles, "beats": 768 * 768 // plain.beat_bytes, "utilization": 768 * 768 / size**2 / cycles})
    return table


def areas() -> list[dict[str, Any]]:
    """Return a row for each engine of 16×16 and for the source of angles; cells of HEDDLE_LIBERTY, else NAND2 equivalents."""
    plain, whole = preset_named("systolic-16x16"), preset_named("hybrid-16x16")
    shifts = replace(whole, weight_formats=("mxint4",))
    designs: dict[str, Any] = {
        "systolic-16x16, WS only": ENGINES["systolic"](replace(plain, dataflows=("ws",))),
        "hybrid-16x16, MXINT4 only": ENGINES["hybrid"](shifts),
        "hybrid-16x16": ENGINES["hybrid"](whole),
        f"source of {whole.rotary_pairs} angles": AngleSource(whole),
    }
    options = AsicOptions(liberty=os.environ.get("HEDDLE_LIBERTY", GENERIC_NAME), timing=False)
    table = []
    for name, design in designs.items():
        found = synthesize(design, top="heddle_block", options=options)
        table.append({"block": name, "area": found["area"], "unit": found["area_unit"], "flip-flops": found["flip_flops"],
                      "memory macros": found["memory_area"] or 0.0, "cells": found["cells"]})
    return table


def bandwidths(parameters: int = 1_311_000_000, megahertz: int = 500, position: int = 1024) -> list[dict[str, Any]]:
    """Return tokens a second at three bandwidths of the memory, on hybrid presets and systolic ones of as many MACs.

    By weights alone: an estimate, of RetNet-1.3B as the specification counts it. Predicted: a whole token of
    `flows.reproduce.hsa_rates.MODEL` behind `position` others, cache, attention, norms and output matrix included, by `sw.perf`.
    """
    table = []
    wide = replace(preset_named("hybrid-32x32"), bus_width=512, hybrid_clusters=4)
    configs = {name: preset_named(name) for name in ("systolic-16x16", "hybrid-16x16", "systolic-32x32", "hybrid-32x32")}
    for name, config in {**configs, "32×32, bus 512, 4 clusters": wide}.items():
        bits = weight_layout(config, 2048, 2048, default_weights(config)).size * 8 / 2048**2
        bus = config.beat_bytes * megahertz * 1e6
        for gigabytes in (12.8, 25.6, 51.2):
            rate = min(bus, gigabytes * 1e9)
            cycles = run_cycles(config, 1, position, chunk=1, head="last", memory=MemoryModel(bandwidth=rate / bus))
            table.append({"config": name, "GB/s": gigabytes, "MB a token": parameters * bits / 8e6,
                          "tokens/s by weights": rate / (parameters * bits / 8), "tokens/s predicted": megahertz * 1e6 / cycles,
                          "bound by": "bus" if rate == bus else "memory"})
    return table
