"""AMMA: collectives of its two-level parallelism, and the bandwidth of 16 cubes."""

from collections.abc import Iterator

from flows.reproduce.options import Options
from flows.reproduce.row import Row
from hw.pim.presets import PIM_PRESETS
from sw.pim.amma import QWEN3_235B, Partition, communication, kv_bytes, kv_time, projection_bytes

__all__ = ["rows"]

_CUBE = PIM_PRESETS["pim-amma"]
_PARTITION = Partition(shape=QWEN3_235B)
_TIMES = {1: {"all_gather": 76.2, "reduce_scatter": 76.0, "tree": 110.9, "total": 263.1},
          32: {"all_gather": 111.9, "reduce_scatter": 107.8, "tree": 449.5, "total": 669.2}}
_TENTH = 0.05 + 1e-9
_MILLION = 1 << 20
_H100 = 3350                # GB/s


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows; all are quick."""
    for batch, expected in _TIMES.items():
        times = communication(_PARTITION, batch)
        for name, value in expected.items():
            yield Row(quantity=f"Qwen3-235B, batch {batch}: {name.replace('_', '-')}, ns", paper=value, ours=float(times[name]),
                      grade="derived", target=value, tolerance=_TENTH, note="link model: 15 ns a hop, 10 ns a step, 1.5 TB/s")
    ours = float(kv_time(_PARTITION, _MILLION)) / 1000
    yield Row(quantity="K and V of a layer at 2²⁰ tokens, µs", paper=None, ours=ours, grade="derived", target=26.8,
              tolerance=0.05, note="16 cubes, 2.5 TB/s")
    alone = kv_bytes(QWEN3_235B, _MILLION) / _H100 / 1000
    yield Row(quantity="attention latency against H100", paper=15.5, ours=alone / ours, grade="found",
              note="rooflines of the bandwidths alone; the paper's H100 reaches less than its full bandwidth, and has launches")
    yield Row(quantity="projection weights a cube and layer, MB", paper=None, ours=float(projection_bytes(_PARTITION)) / 1e6,
              grade="derived", target=4.456, tolerance=5e-4)
    yield Row(quantity="TFLOPS a cube", paper=98.3, grade="secondary", target=98.3, tolerance=0.05,
              ours=2 * _CUBE.n_pch * _CUBE.macs_per_cycle * _CUBE.clock_mhz / 1e6)
    yield Row(quantity="lanes of a cube", paper=1536, ours=_CUBE.n_pch * _CUBE.lanes, grade="secondary", target=1536)
    yield Row(quantity="tokens of K or V that a cube takes in a cycle", paper=None, grade="derived", target=12,
              ours=_CUBE.n_pch * _CUBE.lanes // QWEN3_235B.head_dim)
