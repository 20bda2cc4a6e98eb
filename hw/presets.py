"""Presets: configurations with a name, as data."""

from typing import Any

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.plugins import Registry

__all__ = ["PRESETS", "preset_named"]

KIB = 1024
_HIGHLIGHT = tuple(f"hss-4:{outer}-2:{inner}" for outer in range(4, 9) for inner in range(2, 5))
_BIT_COLUMNS = ("bbs-shift-g32", "bbs-average-g32", "int8")
_SHARED_EXPONENTS = ("mxint4", "int4-g32-int8")
_MASKED = ("32:64", "64:64", "16:64", "8:64", "2:4", "hss-4:6-2:4", "hss-4:8-2:4")
_SERIES = ("tasd-2:4+1:8", "tasd-1:8+1:8", "tasd-2:4+2:4")
_SPARSE = ("2:4", "1:8", *_HIGHLIGHT, "sdq-7:8-1:8int8-6:8fp4", *_SERIES)


def _columns_of(engine: str, rows: int, columns: int, *formats: str, **more: Any) -> AcceleratorConfig:
    """Return `columns` of `rows` MACs whose weights stay; lines hold what a token gives to the sparsest step."""
    return AcceleratorConfig(engine=engine, dataflows=("ws",), rows=rows, columns=columns, weight_formats=formats,
                             vector="transformer", vector_lanes=rows, accumulator_rows=1024, **more)


def _floats(rows: int, columns: int, **more: Any) -> AcceleratorConfig:
    """Return R×C multipliers of float16."""
    return AcceleratorConfig(engine="float", dataflows=("ws",), rows=rows, columns=columns, activation_format="float16",
                             weight_format="float16", vector="transformer", vector_lanes=min(columns, 8),
                             accumulator_rows=512 if columns < 16 else 1024, **more)


PRESETS: Registry[AcceleratorConfig] = Registry("presets", {
    "systolic-4x4": AcceleratorConfig(),
    "systolic-fpga-4x4": AcceleratorConfig(          # a narrow bus and small buffers, for FPGAs
        bus_width=64, scratchpad_bytes=16 * KIB, scratchpad_banks=4, accumulator_rows=128, queue_depth=2, outstanding_reads=8,
        command_lines=8, os_depth=64, vector_lanes=2),
    "systolic-safe-4x4": AcceleratorConfig(          # whatever single bit flips, registers and memories put it right
        protection=(("*.*", "tmr"), ("scratchpad", "secded"), ("accumulator", "secded"), ("fifos", "secded"),
                    ("commands", "parity"))),
    "systolic-8x8": AcceleratorConfig(
        rows=8, columns=8, vector="transformer", vector_lanes=4, scratchpad_bytes=64 * KIB, accumulator_rows=512),
    "systolic-8x16": AcceleratorConfig(
        rows=8, columns=16, vector="transformer", vector_lanes=8, scratchpad_bytes=128 * KIB, accumulator_rows=1024),
    "systolic-16x16": AcceleratorConfig(
        rows=16, columns=16, vector="transformer", vector_lanes=8, scratchpad_bytes=256 * KIB, accumulator_rows=1024),
    "systolic-32x32": AcceleratorConfig(
        rows=32, columns=32, vector="transformer", vector_lanes=8, scratchpad_bytes=512 * KIB, accumulator_rows=1024,
        bus_width=256),
    "systolic-64x64": AcceleratorConfig(
        rows=64, columns=64, vector="transformer", vector_lanes=16, scratchpad_bytes=1024 * KIB, accumulator_rows=1024,
        bus_width=512),
    "systolic-w4a8-16x16": AcceleratorConfig(
        rows=16, columns=16, vector="transformer", vector_lanes=8, scratchpad_bytes=256 * KIB, accumulator_rows=1024,
        weight_format="int4"),
    "bitmod-8x8": AcceleratorConfig(
        engine="bitmod", dataflows=("ws",), rows=8, columns=8, vector="transformer", vector_lanes=4,
        weight_formats=("bitmod4-g128", "bitmod3-g128", "int6-g128-int8"), scratchpad_bytes=64 * KIB, accumulator_rows=512),
    "bitmod-16x16": AcceleratorConfig(
        engine="bitmod", dataflows=("ws",), rows=16, columns=16, vector="transformer", vector_lanes=8,
        weight_formats=("bitmod4-g128", "bitmod3-g128", "int6-g128-int8"), scratchpad_bytes=256 * KIB, accumulator_rows=1024),
    "bitmod-fp16-8x8": AcceleratorConfig(            # float16 activations, float32 sums; lines of 4·R bytes: 2·R activations
        engine="bitmod", dataflows=("ws",), rows=8, columns=8, vector="transformer", vector_lanes=8,
        activation_format="float16", weight_formats=("bitmod4-g128", "bitmod3-g128", "int6-g128-int8"),
        scratchpad_bytes=128 * KIB, accumulator_rows=512),
    "float-4x4": _floats(4, 4, scratchpad_bytes=32 * KIB),
    "float-8x8": _floats(8, 8, scratchpad_bytes=128 * KIB),
    "float-16x16": _floats(16, 16, scratchpad_bytes=512 * KIB),
    "bitvert-8x8": AcceleratorConfig(                # lines of 4·R bytes: as many reads of rows as columns of weights
        engine="bitvert", dataflows=("ws",), rows=8, columns=8, vector="transformer", vector_lanes=8, weight_formats=_BIT_COLUMNS,
        scratchpad_bytes=64 * KIB, accumulator_rows=512),
    "bitvert-16x32": AcceleratorConfig(              # the paper's: 16 windows, 32 channels, 2 × 256 KiB
        engine="bitvert", dataflows=("ws",), rows=16, columns=32, vector="transformer", vector_lanes=16,
        weight_formats=_BIT_COLUMNS, scratchpad_bytes=512 * KIB, accumulator_rows=1024, bus_width=256),
    "hybrid-16x16": AcceleratorConfig(               # two clusters take a beat of 16 bytes: 32 weights a cycle
        engine="hybrid", dataflows=("ws",), rows=16, columns=16, vector="transformer", vector_lanes=8,
        weight_formats=_SHARED_EXPONENTS, scratchpad_bytes=256 * KIB, accumulator_rows=1024, rotary_pairs=64),
    "hybrid-32x32": AcceleratorConfig(               # a block is a column of a tile; 64 weights a cycle
        engine="hybrid", dataflows=("ws",), rows=32, columns=32, vector="transformer", vector_lanes=8,
        weight_formats=_SHARED_EXPONENTS, scratchpad_bytes=512 * KIB, accumulator_rows=1024, bus_width=256, rotary_pairs=64),
    "hss-8x8": _columns_of("hss", 8, 8, *_SPARSE, scratchpad_bytes=128 * KIB),
    "hss-16x16": _columns_of("hss", 16, 16, *_SPARSE, scratchpad_bytes=256 * KIB),
    "stc-16x16": _columns_of("stc", 16, 16, "2:4", scratchpad_bytes=256 * KIB),
    "tc-16x16": _columns_of("tc", 16, 16, scratchpad_bytes=256 * KIB),
    "dstc-4x8": AcceleratorConfig(                   # 4 × 8 products a cycle, 16 × 16 sums
        engine="dstc", dataflows=("ws",), rows=4, columns=16, vector="transformer", vector_lanes=8, weight_formats=_MASKED,
        scratchpad_bytes=128 * KIB, accumulator_rows=1024, os_depth=1024),
    "dstc-8x16": AcceleratorConfig(                  # 8 × 16 products of 32 × 32 sums: DSTC's
        engine="dstc", dataflows=("ws",), rows=8, columns=32, vector="transformer", vector_lanes=8, weight_formats=_MASKED,
        scratchpad_bytes=256 * KIB, accumulator_rows=1024, os_depth=1024, bus_width=256),
    "tasd-8x8": _columns_of("tasd", 8, 8, "int8", scratchpad_bytes=128 * KIB, activation_pattern="4:8"),
    "tasd-16x16": _columns_of("tasd", 16, 16, "int8", scratchpad_bytes=256 * KIB, activation_pattern="4:8"),
    "hss-16x64": _columns_of("hss", 16, 64, *_SPARSE, scratchpad_bytes=512 * KIB, bus_width=512),     # 1024 MACs
    "stc-16x64": _columns_of("stc", 16, 64, "2:4", scratchpad_bytes=512 * KIB, bus_width=512),
    "tc-16x64": _columns_of("tc", 16, 64, scratchpad_bytes=512 * KIB, bus_width=512),
})


def preset_named(name: str) -> AcceleratorConfig:
    """Return the preset called `name`.

    Raises
    ------
    ConfigError
        If there is none; the text lists those that exist.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[name]
