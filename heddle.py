"""Heddle in Python: what the commands do, as functions and classes.

>>> import heddle
>>> config = heddle.preset("systolic-4x4")
>>> spec = heddle.GemmSpec(m=8, n=8, k=16)
>>> heddle.compile_gemm(config, spec).name
'gemm 8x8x16'

Names are looked up when they are used, so that importing this module costs nothing. `docs/python.md` shows each at work.
"""

import importlib
from typing import Any

_HOMES = {
    # what is generated
    "AcceleratorConfig": "hw.config", "ConfigError": "hw.errors", "PRESETS": "hw.presets", "preset": "hw.presets:preset_named",
    "emit": "flows.emit", "Emission": "flows.emit", "block_diagram": "flows.view.diagram",
    "synthesize": "flows.synth.asic",
    # numbers
    "FORMATS": "hw.formats", "format_named": "hw.formats", "quantize": "sw.formats", "dequantize": "sw.formats",
    "QuantizedTensor": "sw.formats", "save": "sw.formats", "load": "sw.formats",
    # programs and devices
    "GemmSpec": "sw.kernels.spec", "compile_gemm": "sw.runtime", "run_gemm": "sw.runtime", "gemm_args": "sw.runtime",
    "reference_gemm": "sw.runtime", "Program": "sw.program", "GoldenDevice": "sw.golden.device", "RtlDevice": "flows.rtl_device",
    "BoardDevice": "flows.board_device", "MemoryTiming": "flows.native_sim",
    "DeviceError": "sw.device", "DeviceHang": "sw.device", "Result": "sw.device",
    "predict": "sw.perf",
    # next to DRAM, and systems of an array and a PIM
    "PimConfig": "hw.pim.config", "pim_preset": "hw.pim.presets:pim_preset_named", "PimProgram": "sw.pim.program",
    "LinearPlan": "sw.pim.linear", "GoldenPimDevice": "sw.golden.pim.device", "RtlPimDevice": "flows.pim.rtl_device",
    "SystemConfig": "hw.system", "system": "hw.system:system_named", "CompiledSystem": "sw.system",
    "SystemGenerator": "sw.system",
    # language models
    "LlamaModel": "sw.models.llama", "CompiledModel": "sw.generate", "Generator": "sw.generate", "Sampler": "sw.sampling",
}
"""Public name → module that has it, with `:name` where it is called otherwise there."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'heddle' has no attribute {name!r}")
    module, _, other = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), other or name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
