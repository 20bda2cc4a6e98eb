"""Presets of the PIM logic die: published designs, and a tiny one for tests, as data."""

from hw.errors import ConfigError
from hw.pim.config import PimConfig

__all__ = ["PIM_PRESETS", "pim_preset_named"]

_ATTACC = PimConfig(        # units of 16 lanes beside the banks, four a segment, with operand buffers of 2 × 16 × 256 bit each;
                            # limited by power: a burst of all of them every 6 clocks; softmax of 256 scores a cycle and stack,
                            # 8 for each pseudo-channel
    n_pch=32, streams=32, interval=6, clock_mhz=666, pim_per_burst=3, rows_x=1, lanes=512, segments=8, k_tile=1024,
    xbuf_entries=32, obuf_entries=256, heads=64, sm_lanes=8, bundles=1, dram_rows=16384)

PIM_PRESETS: dict[str, PimConfig] = {
    "pim-tiny": PimConfig(),
    "pim-duplex-tiny": PimConfig(   # Logic-PIM in small, with what the shipped model needs: two query rows, 4 MiB a channel
        k_tile=128, xbuf_entries=16, dram_rows=128),
    "pim-duplex": PimConfig(        # Logic-PIM: 512 MACs of FP16 for each of 32 pseudo-channels
        n_pch=32, streams=8, rows_x=8, lanes=64, k_tile=512, xbuf_entries=16, obuf_entries=256, heads=64, sm_lanes=2,
        bundles=4, dram_rows=16384),
    "pim-attacc": _ATTACC,          # in every bank
    "pim-attacc-bank-group": PimConfig(
        n_pch=32, streams=8, interval=6, clock_mhz=666, pim_per_burst=3, rows_x=1, lanes=128, k_tile=512, xbuf_entries=8,
        obuf_entries=256, heads=64, sm_lanes=8, bundles=4, dram_rows=16384),
    "pim-attacc-buffer": PimConfig(
        n_pch=32, streams=1, interval=2, clock_mhz=666, pim_per_burst=1, rows_x=1, lanes=16, k_tile=512, xbuf_entries=64,
        obuf_entries=256, heads=64, sm_lanes=8, bundles=8, dram_rows=16384),
    "pim-hbm": PimConfig(           # Aquabolt-XL: half of the banks at a time, lock step
        n_pch=16, streams=8, clock_mhz=250, pim_per_burst=1, rows_x=1, lanes=128, k_tile=128, xbuf_entries=2, obuf_entries=8,
        heads=1, bundles=1, timing="hbm2", dram_rows=8192, dcs=False),
    "pim-aim": PimConfig(           # all 16 banks of a channel
        n_pch=2, streams=16, interval=2, clock_mhz=1000, pim_per_burst=1, wtype="bfloat16", kvtype="bfloat16", xtype="bfloat16",
        ptype="bfloat16", rows_x=1, lanes=256, segments=16, k_tile=512, xbuf_entries=64, obuf_entries=16, heads=1, sm_lanes=16,
        bundles=1, timing="gddr6-aim", dram_rows=16384, dcs=False),
    "pim-p3": PimConfig(            # throughput-enhanced: a column serves two vectors; a group of 128, or a token, to a segment
        n_pch=16, streams=8, clock_mhz=500, pim_per_burst=2, wtype="bitmod4", kvtype="p3-kv", xtype="float8_e4m3fn",
        ptype="float8_s0e4m4", rows_x=2, lanes=256, segments=2, acc="int32", k_tile=512, xbuf_entries=8,
        obuf_entries=64, heads=64, bundles=2, timing="hbm2", dram_rows=8192),
    "pim-amma": PimConfig(          # one cube: 12 cores of 8 arrays of 16×16
        n_pch=12, streams=8, clock_mhz=2000, pim_per_burst=2, wtype="float8_e4m3fn", kvtype="float8_e4m3fn",
        xtype="float8_e4m3fn", ptype="float8_e4m3fn", rows_x=16, lanes=128, k_tile=512, xbuf_entries=8, obuf_entries=256,
        heads=64, sm_lanes=4, bundles=4, timing="hbm4-cube", dram_rows=32768),
}


def pim_preset_named(name: str) -> PimConfig:
    """Return the preset called `name`.

    Raises
    ------
    ConfigError
        If there is none; the text lists those that exist.
    """
    if name not in PIM_PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PIM_PRESETS)}, not {name!r}")
    return PIM_PRESETS[name]
