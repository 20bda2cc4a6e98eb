"""The mapper: tile sizes, loop order and dataflow of a GEMM, by a closed-form estimate of its cycles."""

from collections.abc import Iterator
from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div
from sw.kernels.plan import Mapping, Plan, PlanError, make_plan
from sw.kernels.spec import GemmSpec
from sw.kernels.tiles import Extent, OperandTile, TileShape, granularity

__all__ = ["Estimate", "MappingError", "choose_plan", "estimate", "ranked_plans"]

LATENCY = 40                # cycles from a load's first address to its first beat, about
COMMAND = 12                # cycles from a semaphore to the first work of the command that waits for it, about


class MappingError(ValueError):
    """A GEMM that no mapping of this config can run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Cycles of a plan, about: of the whole, and of one step's matrix command and loads."""

    cycles: float
    matrix: float
    inner_load: float
    outer_load: float


def _sizes(extent: Extent) -> tuple[int, float]:
    """Return the size of the first tile and the mean over all tiles."""
    return min(extent.total, extent.tile), extent.total / extent.count


def _beats(config: AcceleratorConfig, tile: OperandTile) -> tuple[float, float]:
    """Return the beats of an operand's first tile, and the mean of all."""
    first_rows, mean_rows = _sizes(tile.rows)
    first_bytes, mean_bytes = _sizes(tile.row_bytes)
    return (first_rows * ceil_div(first_bytes, config.beat_bytes), mean_rows * ceil_div(int(mean_bytes), config.beat_bytes))


def _matrix_cycles(config: AcceleratorConfig, plan: Plan) -> tuple[float, float]:
    """Return the engine's cycles on the first step, and the mean of all."""
    spec, tile = plan.spec, plan.mapping.tile
    streamed, grouped = ("m", "k") if plan.mapping.dataflow == "ws" else ("k", "m")

    def cycles(m: float, n: float, k: float) -> float:
        sizes = {"m": m, "k": k}
        groups = ceil_div(int(n), config.columns) * ceil_div(int(sizes[grouped]), config.rows)
        return groups * max(sizes[streamed], config.rows)

    first = cycles(min(spec.m, tile.m), min(spec.n, tile.n), min(spec.k, tile.k))
    whole = 1.0
    for dim, side in (("n", config.columns), (grouped, config.rows)):
        total, size = getattr(spec, dim), getattr(tile, dim)
        whole *= sum(ceil_div(min(size, total - start), side) for start in range(0, total, size))
    total, size = getattr(spec, streamed), getattr(tile, streamed)
    whole *= sum(max(min(size, total - start), config.rows) for start in range(0, total, size))
    return first, whole / (plan.counts["m"] * plan.counts["n"] * plan.counts["k"])


def estimate(config: AcceleratorConfig, plan: Plan) -> Estimate:
    """Return an estimate of a plan's cycles: filling, the slowest resource in each step and tile, and draining."""
    counts, spec = plan.counts, plan.spec
    first_matrix, matrix = _matrix_cycles(config, plan)
    first_inner, inner = _beats(config, plan.tiles[plan.inner_operand])
    first_outer, outer = _beats(config, plan.tiles[plan.outer_operand])
    _, store = _beats(config, plan.tiles["c"])
    slices = config.columns // config.vector_lanes
    vector = spec.m * ceil_div(spec.n, config.columns) * slices / (counts["m"] * counts["n"])
    if "parameters" in plan.tiles:
        inner += _beats(config, plan.tiles["parameters"])[1] / counts["k"]
    if not plan.separate:
        matrix *= 1.25
    # Loads run at most `inner_slots` steps ahead: a step is as long as its work, or as the loads plus what the ring cannot hide.
    hidden = LATENCY / plan.mapping.inner_slots
    step_first = max(matrix, inner + outer + hidden)
    step_rest = max(matrix, inner + hidden)
    tile_floor = max(vector + COMMAND, store + COMMAND)
    panel = max(counts["k"] * step_first, tile_floor) + (counts[plan.inner] - 1) * max(counts["k"] * step_rest, tile_floor)
    fill = first_inner + first_outer + 3 * LATENCY + 2 * config.rows + config.columns
    drain = vector + store + 2 * LATENCY + first_matrix - matrix
    cycles = fill + spec.batch * counts[plan.mapping.outer] * panel + drain
    return Estimate(cycles=cycles, matrix=matrix, inner_load=inner, outer_load=outer)


def _candidates(total: int, step: int, limit: int) -> list[int]:
    """Return tile sizes to try: `step` times powers of two and three, up to `total`, which fits as it is."""
    sizes = set()
    for factor in (1, 3):
        size = step * factor
        while size < min(total, limit):
            sizes.add(size)
            size *= 2
    if total <= limit:
        sizes.add(total)
    return sorted(sizes) or [min(total, step)]


def _mappings(config: AcceleratorConfig, spec: GemmSpec, dataflow: str) -> Iterator[Mapping]:
    step = granularity(config, spec, dataflow)
    half = config.accumulator_rows // 2
    step_m = max(step.m, min(config.rows, spec.m)) if dataflow == "ws" and step.m == 1 else step.m
    step_k = step.k if dataflow == "ws" else max(step.k, ceil_div(config.rows, step.k) * step.k)
    for tile_n in _candidates(spec.n, step.n, half * config.columns):
        for tile_m in _candidates(spec.m, step_m, half // ceil_div(tile_n, config.columns)):
            for tile_k in _candidates(spec.k, step_k, (1 << 16) - 1):
                for outer in ("m", "n"):
                    yield Mapping(dataflow=dataflow, outer=outer, tile=TileShape(m=tile_m, n=tile_n, k=tile_k))


def ranked_plans(config: AcceleratorConfig, spec: GemmSpec, keep: int = 8) -> list[tuple[float, Plan]]:
    """Return the best plans by estimate, at most `keep`, best first.

    Raises
    ------
    MappingError
        If there is none.
    """
    dataflows = config.dataflows if spec.dataflow == "auto" else (spec.dataflow,)
    found: list[tuple[float, int, Plan]] = []
    reason = f"GemmSpec.dataflow must be one of {', '.join(config.dataflows)} for this config, not {spec.dataflow!r}"
    for dataflow in dataflows:
        if dataflow not in config.dataflows:
            continue
        for mapping in _mappings(config, spec, dataflow):
            try:
                plan = make_plan(config, spec, mapping)
            except PlanError as error:
                reason = str(error)
                continue
            found.append((estimate(config, plan).cycles, len(found), plan))
    if not found:
        raise MappingError(f"no tiling of {spec.m}×{spec.n}×{spec.k} fits this config: {reason}")
    found.sort(key=lambda entry: entry[:2])
    return [(cycles, plan) for cycles, _, plan in found[:keep]]


def choose_plan(config: AcceleratorConfig, spec: GemmSpec) -> Plan:
    """Return the plan with the fewest estimated cycles."""
    return ranked_plans(config, spec, keep=1)[0][1]
