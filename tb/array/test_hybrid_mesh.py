"""The hybrid array: both modes exact, in exactly the cycles of `hw.engines.hybrid`, and from the same packed words."""

import re
from typing import Any

import numpy as np
import pytest

from flows.emit import to_verilog
from hw.array.hybrid_mesh import HybridMesh
from hw.array.hybrid_row import HybridSpec
from hw.engines.hybrid import clusters_last_output, mesh_cycles
from tb.sim import simulate

PSUM_WIDTH = 22
SHAPES = [(4, 1), (4, 2), (8, 2), (8, 4)]


def spec(size: int, clusters: int) -> HybridSpec:
    return HybridSpec(size=size, clusters=clusters, psum_width=PSUM_WIDTH)


def play(dut: HybridMesh, slots: list[dict[str, Any]], seen: list[tuple[int, list[int]]], *, clusters: bool) -> Any:
    """Return a testbench that presents one slot a cycle and notes (cycle, row) of what comes of slots that say `result`."""
    latency, port = (dut.cluster_latency, dut.cluster_psum) if clusters else (dut.latency, dut.psum)
    count = dut.spec.clusters if clusters else dut.spec.size

    async def bench(ctx):
        for cycle in range(len(slots) + latency):
            slot = slots[cycle] if cycle < len(slots) else {}
            for name in ("activation", "weight", "words"):
                if name in slot:
                    ctx.set(getattr(dut, name), slot[name])
            ctx.set(dut.control, slot.get("control", {}))
            due = cycle - latency
            if due >= 0 and slots[due].get("result"):
                row = ctx.get(port)
                seen.append((cycle, [row[c] for c in range(count)]))
            await ctx.tick()

    return bench


def word(column: np.ndarray) -> list[int]:
    return [int(x) & 15 for x in column]


def mesh_slots(activations: list[np.ndarray], tiles: list[np.ndarray], clusters: int, *, packed: bool) -> list[dict[str, Any]]:
    """Return the slots of activations[t] (m, N) × tiles[t] (N, N), each as early as it can be; packed tiles column by column."""
    size = tiles[0].shape[0]
    slots: dict[int, dict[str, Any]] = {}
    preloaded = streamed = before = 0
    for index, (rows, tile) in enumerate(zip(activations, tiles, strict=True)):
        start = max(preloaded, before)
        for i in range(size):
            slot = slots.setdefault(start + i, {"control": {}})
            slot["control"] |= {"select": (index + 1) % 2}
            if packed:
                slot["words"] = [[0] * size] * (clusters - 1) + [word(tile[:, i])]
                slot["control"] |= {"capture": 1, "capture_column": i}
            else:
                slot["weight"] = [int(x) for x in tile[i]]
                slot["control"] |= {"load": 1, "load_row": i}
        preloaded = start + size
        first = max(preloaded, streamed)
        for i, row in enumerate(rows):
            slot = slots.setdefault(first + i, {"control": {}})
            slot |= {"activation": [int(x) for x in row], "result": True}
            slot["control"] |= {"select": index % 2}
        before, streamed = streamed, first + len(rows)
    return [slots.get(cycle, {}) for cycle in range(max(slots) + 1)]


def cluster_slots(activations: np.ndarray, weights: np.ndarray, clusters: int, size: int) -> list[dict[str, Any]]:
    """Return the slots of activations (K,) × weights (K, M): for each tile of N channels its k-groups, S words a slot."""
    slots = []
    for tile in range(0, weights.shape[1], size):
        for k in range(0, len(activations), size):
            for first in range(tile, tile + size, clusters):
                slots.append({"activation": [int(x) for x in activations[k:k + size]], "result": True,
                              "words": [word(weights[k:k + size, first + c]) for c in range(clusters)],
                              "control": {"streamed": 1}})
    return slots


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
@pytest.mark.parametrize(("tiles", "m"), [(1, 1), (3, 4), (5, 2), (2, 13)])
@pytest.mark.parametrize(("size", "clusters"), SHAPES[:3])
def test_prefill_takes_the_cycles_of_the_formula(size: int, clusters: int, tiles: int, m: int, packed: bool) -> None:
    rng = np.random.default_rng(size * 100 + tiles * 10 + m)
    limit = 8 if packed else 128
    a = [rng.integers(-128, 128, (m, size)) for _ in range(tiles)]
    b = [rng.integers(-limit, limit, (size, size)) for _ in range(tiles)]
    dut, seen = HybridMesh(spec(size, clusters)), []
    simulate(dut, play(dut, mesh_slots(a, b, clusters, packed=packed), seen, clusters=False))
    assert [row for _, row in seen] == [row.tolist() for left, right in zip(a, b, strict=True) for row in left @ right]
    assert seen[-1][0] + 1 == mesh_cycles(size, tiles, m) == 3 * size + (tiles - 1) * max(m, size) + m - 1


@pytest.mark.parametrize(("k", "outputs"), [(1, 1), (3, 2), (2, 5)])
@pytest.mark.parametrize(("size", "clusters"), SHAPES)
def test_decode_takes_the_cycles_of_the_formula(size: int, clusters: int, k: int, outputs: int) -> None:
    rng = np.random.default_rng(size + k)
    activations, weights = rng.integers(-128, 128, k * size), rng.integers(-8, 8, (k * size, outputs * size))
    dut, seen = HybridMesh(spec(size, clusters)), []
    slots = cluster_slots(activations, weights, clusters, size)
    simulate(dut, play(dut, slots, seen, clusters=True))
    sums = np.array([row for _, row in seen]).reshape(outputs, k, size).sum(axis=1).ravel()
    assert sums.tolist() == (activations @ weights).tolist()
    last = clusters_last_output(size, clusters, k * size, outputs * size)
    assert last == k * (outputs * size // clusters) + size + clusters - 3
    # The last PE adds in that cycle; its sum has passed the register at the foot in the next one. No slot is without words.
    assert [cycle for cycle, _ in seen] == list(range(size + clusters - 1, last + 2))


@pytest.mark.parametrize(("size", "clusters"), SHAPES)
def test_prefill_of_one_token_and_decode_agree_bit_for_bit(size: int, clusters: int) -> None:
    rng = np.random.default_rng(1)
    a, tile = rng.integers(-128, 128, size), rng.integers(-8, 8, (size, size))
    rows = []
    for decode in (False, True):
        dut, seen = HybridMesh(spec(size, clusters)), []
        slots = cluster_slots(a, tile, clusters, size) if decode else mesh_slots([a[None]], [tile], clusters, packed=True)
        simulate(dut, play(dut, slots, seen, clusters=decode))
        rows.append(np.array([row for _, row in seen]).ravel().tolist())
    assert rows[0] == rows[1]


def test_modes_alternate_without_a_bubble() -> None:
    """Slots of the clusters between those of the mesh disturb neither stationary weights nor psums on their way."""
    size, clusters = 4, 2
    rng = np.random.default_rng(2)
    a, tile, weights = rng.integers(-128, 128, (3, size)), rng.integers(-8, 8, (size, size)), rng.integers(-8, 8, (size, size))
    dut = HybridMesh(spec(size, clusters))
    stream = mesh_slots([a], [tile], clusters, packed=True)
    merged = stream[:size]
    for mesh, cluster in zip(stream[size:], cluster_slots(a[0], weights, clusters, size) * 2, strict=False):
        merged += [mesh, cluster | {"result": False}]
    seen: list[tuple[int, list[int]]] = []
    simulate(dut, play(dut, merged, seen, clusters=False))
    assert [row for _, row in seen] == (a @ tile).tolist()


def test_each_block_is_emitted_once() -> None:
    """Itself, skews of four kinds, two deskews, one row, a PE for each number of lanes, one plain one."""
    text = to_verilog(HybridMesh(spec(16, 4)), "mesh")
    names = [line.split("(")[0].split()[1] for line in text.splitlines() if line.startswith("module ")]
    assert len(names) == len(set(names))
    assert sum(name.startswith("pe_hybrid_cluster") for name in names) == 4
    assert sum(name.startswith("pe_hybrid_plain") for name in names) == 1
    assert len(re.findall(r"^  hybrid_row_16_4_\S+ row_", text, re.M)) == 16
