"""The mapper: dataflow, loop order and tiles of a GEMM. A closed form ranks all mappings, the model of `sw.perf` the best few."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import DESCRIPTORS, Unit
from sw.engines import engine_runtime
from sw.engines.systolic import SYSTOLIC
from sw.kernels.epilogue import epilogue_fields
from sw.kernels.gemm import gemm_code
from sw.kernels.plan import FIELD_LIMIT, Mapping, Plan, PlanError, make_plan
from sw.kernels.spec import GemmSpec
from sw.kernels.tiles import Extent, OperandTile, TileShape, granularity
from sw.layout import round_up
from sw.perf import MemoryModel, predict_code, vector_command_cycles

__all__ = ["Estimate", "MappingError", "choose_plan", "estimate", "ranked_plans"]

RINGS = (4, 3, 2)           # slots of the streamed operand, the best first
FINALISTS = 8               # plans that the model runs
LARGEST_TRIAL = 400         # steps of a plan that the model runs; longer ones are decided by the closed form, which is good there
BEAT_PRICE = 1 / 64         # cycles that a beat read is worth: between plans of about the same speed, the one that reads less
LOAD_OVERHEAD = 12          # cycles between a free slot and the matrix command that uses its next contents, besides the memory
STEP_INSTRUCTIONS = 36      # cycles that the sequencer spends on a step, about
TILE_INSTRUCTIONS = 44      # and on a tile besides its steps
START = 90                  # from the doorbell to the first load, about, besides the memory


class MappingError(ValueError):
    """A GEMM that no mapping of this config can run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What the closed form says of a plan.

    Attributes
    ----------
    cycles : float
        Of the whole.
    beats : float
        Read from memory.
    """

    cycles: float
    beats: float


def _mean(extent: Extent) -> float:
    """Return the mean size of the tiles along an extent."""
    return extent.total / extent.count


def _beats(config: AcceleratorConfig, tile: OperandTile) -> float:
    """Return the beats of an operand's tile, on average; short transposed blocks are padded to whole ones."""
    rows, beats = _mean(tile.rows), round_up(round(_mean(tile.row_bytes)), config.beat_bytes) / config.beat_bytes
    if tile.transpose:
        return round_up(round(rows), config.beat_bytes) * beats
    return rows * beats


def _matrix_cycles(config: AcceleratorConfig, plan: Plan) -> float:
    """Return the engine's cycles of a step, on average; of other engines than the systolic one by its clock."""
    if engine_runtime(config) is not SYSTOLIC:
        return _timed_cycles(config, plan)
    spec, tile = plan.spec, plan.mapping.tile
    streamed, grouped = ("m", "k") if plan.mapping.dataflow == "ws" else ("k", "m")

    def summed(dim: str, least: int, side: int) -> float:
        total, size = getattr(spec, dim), getattr(tile, dim)
        pieces = [(total // size, size), (1, total % size)]
        return sum(count * max(ceil_div(piece, side), least) for count, piece in pieces if piece)

    if not plan.separate:                           # operands in one bank: a slot of each in turn
        turns = summed(streamed, config.rows, 1) + (config.rows if plan.mapping.dataflow == "ws" else getattr(spec, streamed))
        whole = summed("n", 1, config.columns) * summed(grouped, 1, config.rows) * turns
        return whole / (plan.counts["m"] * plan.counts["n"] * plan.counts["k"])
    whole = summed("n", 1, config.columns) * summed(grouped, 1, config.rows) * summed(streamed, config.rows, 1)
    return whole / (plan.counts["m"] * plan.counts["n"] * plan.counts["k"])


def _timed_cycles(config: AcceleratorConfig, plan: Plan) -> float:
    """Return the cycles of a step in an unbroken run: those of a group of C outputs, times those of a tile."""
    spec, tile, a, b = plan.spec, plan.mapping.tile, plan.tiles["a"], plan.tiles["b"]
    apart = config.scratchpad_bytes - config.scratchpad_bank_bytes if plan.separate else 0
    groups = ceil_div(spec.n, config.columns) / plan.counts["n"]
    return groups * _group_cycles(config, min(tile.m, spec.m), min(tile.k, spec.k), b.mode, a.engine_stride, b.engine_stride,
                                  apart)


@lru_cache(maxsize=4096)
def _group_cycles(config: AcceleratorConfig, m: int, k: int, mode: int, a_stride: int, b_stride: int, weight_addr: int) -> float:
    """Return the cycles from one command for a group of C outputs to the next."""
    fields = dict.fromkeys((field.name for field in DESCRIPTORS[Unit.MATRIX]), 0) | {
        "m": m, "n": config.columns, "k": k, "mode": mode, "activation_stride": a_stride, "weight_addr": weight_addr,
        "weight_stride": b_stride}
    timing = engine_runtime(config).timing(config)
    done = [timing.command(timing.next, fields) for _ in range(4)]
    return done[3] - done[2]


def estimate(config: AcceleratorConfig, plan: Plan, memory: MemoryModel | None = None) -> Estimate:
    """Return an estimate of a plan: filling, then the slowest resource in each step and each tile, then draining."""
    latency = (memory or MemoryModel()).latency
    bandwidth = (memory or MemoryModel()).bandwidth
    counts, spec, mapping, tiles = plan.counts, plan.spec, plan.mapping, plan.tiles
    matrix = _matrix_cycles(config, plan)
    inner, outer = (_beats(config, tiles[name]) / bandwidth for name in (plan.inner_operand, plan.outer_operand))
    parameters = _beats(config, tiles["parameters"]) / bandwidth if "parameters" in tiles else 0.0
    store = _beats(config, tiles["c"]) / bandwidth
    tile_fields = {"m": max(1, spec.m // counts["m"]), "n": max(1, spec.n // counts["n"]), "addr": plan.addresses["c"],
                   "b_addr": plan.addresses.get("scales", 0), "c_addr": plan.addresses.get("parameters", 0)}
    vector = vector_command_cycles(config, epilogue_fields(spec, floating=config.float_activations) | tile_fields)
    drain = config.rows * (1 if mapping.dataflow == "ws" else 2) + config.columns
    # A slot of the ring: drained, loaded again, used; the other slots' steps must cover that.
    turnaround = drain + latency + LOAD_OVERHEAD
    others = mapping.inner_slots - 1
    inner += parameters / counts["k"]
    first_steps = counts["k"] * max(matrix, inner + outer, (turnaround + inner + outer) / others, STEP_INSTRUCTIONS)
    later_steps = counts["k"] * max(matrix, inner, (turnaround + inner) / others, STEP_INSTRUCTIONS)
    floor = max(vector + drain + LOAD_OVERHEAD, (store + latency + vector) / 2 + LOAD_OVERHEAD, TILE_INSTRUCTIONS)
    loaded = 1 if mapping.resident else counts[plan.inner]          # inner tiles with which the outer operand is loaded
    panel = loaded * max(first_steps, floor) + (counts[plan.inner] - loaded) * max(later_steps, floor)
    panels = spec.batch * counts[mapping.outer]
    fill = START + 2 * latency + inner + outer + config.rows
    tail = drain + vector + store + latency
    beats = panels * counts["k"] * (loaded * outer + counts[plan.inner] * inner)
    return Estimate(cycles=fill + panels * panel + tail, beats=beats)


# Candidates ---------------------------------------------------------------------------------------------------


def _sizes(total: int, step: int, limit: int) -> list[int]:
    """Return tile sizes to try: `step` times powers of two, equal parts of `total` rounded up to `step`, and all of it."""
    sizes = {total, *(step << i for i in range(16)), *(round_up(ceil_div(total, parts), step) for parts in range(2, 9))}
    return sorted(size for size in sizes if size <= limit and (size < total or size == total))


def _mappings(config: AcceleratorConfig, spec: GemmSpec, dataflow: str) -> Iterator[Mapping]:
    """Yield mappings to try, without regard to the scratchpad."""
    step = granularity(config, spec, dataflow)
    half = config.accumulator_rows // 2
    least_m = max(step.m, min(config.tile_tokens, spec.m)) if step.m == 1 else step.m
    least_k = round_up(max(step.k, min(config.rows, spec.k)), step.k)
    for tile_n in _sizes(spec.n, step.n, half * config.columns):
        for tile_m in _sizes(spec.m, least_m, half // ceil_div(tile_n, config.columns)):
            for tile_k in _sizes(spec.k, least_k, FIELD_LIMIT):
                tile = TileShape(m=tile_m, n=tile_n, k=tile_k)
                yield from (Mapping(dataflow=dataflow, outer=outer, tile=tile) for outer in "mn")
                if tile_k < spec.k:
                    yield Mapping(dataflow=dataflow, outer="m", tile=tile, resident=False)


def _fit(config: AcceleratorConfig, spec: GemmSpec, mapping: Mapping) -> Plan:
    """Return the plan with the longest ring that fits, in banks of its own if there is one."""
    fitting: Plan | None = None
    refused: PlanError | None = None
    for slots in RINGS:
        try:
            plan = make_plan(config, spec, replace(mapping, inner_slots=slots))
        except PlanError as error:
            refused = error
            continue
        if plan.separate:
            return plan
        fitting = fitting or plan
    if fitting is None:
        assert refused is not None
        raise refused
    return fitting


def ranked_plans(config: AcceleratorConfig, spec: GemmSpec, memory: MemoryModel | None = None) -> list[tuple[Estimate, Plan]]:
    """Return every plan with its estimate, best first.

    Raises
    ------
    MappingError
        If there is none.
    """
    dataflows = config.dataflows if spec.dataflow == "auto" else (spec.dataflow,)
    if not set(dataflows) <= set(config.dataflows):
        raise MappingError(f"GemmSpec.dataflow must be one of {', '.join(config.dataflows)} for this config, "
                           f"not {spec.dataflow!r}")
    found: list[tuple[Estimate, Plan]] = []
    reason = f"a tile needs more than {config.accumulator_rows // 2} accumulator rows"
    for dataflow in dataflows:
        for mapping in _mappings(config, spec, dataflow):
            try:
                plan = _fit(config, spec, mapping)
            except PlanError as error:
                reason = str(error)
                continue
            found.append((estimate(config, plan, memory), plan))
    if not found:
        raise MappingError(f"no tiling of {spec.m}×{spec.n}×{spec.k} fits this config: {reason}")
    found.sort(key=lambda entry: entry[0].cycles + BEAT_PRICE * entry[0].beats)
    return found


@lru_cache(maxsize=256)
def choose_plan(config: AcceleratorConfig, spec: GemmSpec, memory: MemoryModel | None = None) -> Plan:
    """Return the plan with the fewest cycles: of the best by estimate, the best by the model of `sw.perf`. Remembered.

    Raises
    ------
    MappingError
        If no plan fits the config.
    """
    finalists = ranked_plans(config, spec, memory)[:FINALISTS]

    def price(entry: tuple[Estimate, Plan]) -> float:
        guess, plan = entry
        steps = spec.batch * plan.counts["m"] * plan.counts["n"] * plan.counts["k"]
        cycles = guess.cycles
        if steps <= LARGEST_TRIAL and len(finalists) > 1:
            cycles = predict_code(config, gemm_code(config, plan), {}, memory).cycles
        return cycles + BEAT_PRICE * guess.beats

    return min(finalists, key=price)[1]
