"""What a decode step takes on a compute array alone and on one with PIM beside it: the parts of a layer, combined.

Source: Yun et al., Duplex, MICRO 2024: projections stay on the array, attention of requests in decode goes to PIM, experts are
split. How we differ: times are rooflines of the array and our own cycles of PIM (`sw.pim.cycles`), without links between
devices: a model that is spread over several has the same share of everything on each.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hw.errors import ConfigError
from hw.pim.config import PimConfig
from sw.pim.balance import ArrayEngine, PimEngine, split_experts
from sw.pim.cycles import refresh_factor, row_efficiency
from sw.pim.limits import check_count, check_rate

__all__ = ["H100", "MODELS", "MoeModel", "Step", "expert_loads", "pim_engine", "step"]

H100 = ArrayEngine(bandwidth=Fraction(3350), gops=Fraction(989_000))
"""A GPU with 5 stacks of HBM3 at its full bandwidth and rate."""
BYTES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class MoeModel:
    """One layer of a model; `experts` 1 is a dense one. Feed-forward parts have three matrices, or two where `gated` is false.

    Raises
    ------
    ConfigError
        If a number is out of its range or does not divide.
    """

    model: int
    hidden: int
    heads: int
    group: int
    experts: int = 1
    top: int = 1
    gated: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("model", "hidden", "heads", "group", "experts"):
            check_count(f"MoeModel.{name}", getattr(self, name))
        check_count("MoeModel.top", self.top, 1, self.experts)
        for name, of in (("heads", "model"), ("group", "heads")):
            if getattr(self, of) % getattr(self, name):
                raise ConfigError(f"MoeModel.{name} must be a divisor of {of} ({getattr(self, of)}), not {getattr(self, name)!r}")

    @property
    def head_dim(self) -> int:
        """Elements of a head."""
        return self.model // self.heads

    @property
    def projection_bytes(self) -> int:
        """Bytes of the Q, K, V and output projections."""
        return 2 * self.model * (self.model + self.model // self.group) * BYTES

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert."""
        return (3 if self.gated else 2) * self.model * self.hidden * BYTES

    def kv_bytes(self, context: int) -> int:
        """Return the bytes of one request's K and V."""
        check_count("context", context, 0)
        return 2 * self.model // self.group * context * BYTES


MODELS: dict[str, MoeModel] = {
    "Mixtral-47B": MoeModel(model=4096, hidden=14336, heads=32, group=4, experts=8, top=2),
    "GLaM-143B": MoeModel(model=4096, hidden=16384, heads=32, group=1, experts=64, top=2, gated=False),
    "Grok1-314B": MoeModel(model=6144, hidden=32768, heads=48, group=6, experts=8, top=2),
    "OPT-66B": MoeModel(model=9216, hidden=36864, heads=72, group=1, gated=False),
    "Llama3-70B": MoeModel(model=8192, hidden=28672, heads=64, group=8),
}


def pim_engine(config: PimConfig, *, stacks: int = 1, ping_pong: bool = False, refresh: bool = True,
               overhead: Fraction = Fraction(0)) -> PimEngine:
    """Return the rate at which the dies of `stacks` stacks take weights: that of the MACs, or of the DRAM, whichever is less."""
    check_count("stacks", stacks)
    macs = Fraction(config.n_pch * config.lanes * config.clock_mhz * config.weight_bits, 8000)
    efficiency = row_efficiency(config, ping_pong=ping_pong) / (refresh_factor(config) if refresh else 1)
    return PimEngine(bandwidth=stacks * min(macs, config.n_pch * config.bandwidth), rows_x=config.rows_x, efficiency=efficiency,
                     overhead=overhead)


def expert_loads(model: MoeModel, tokens: int, *, alpha: float, seed: int) -> list[int]:
    """Return the tokens of each expert: as many as `top` for each token, popularity by a Dirichlet distribution."""
    check_count("tokens", tokens, 0)
    check_rate("alpha", alpha)
    check_count("seed", seed, 0)
    rng = np.random.default_rng(seed)
    return [int(n) for n in rng.multinomial(tokens * model.top, rng.dirichlet([alpha] * model.experts))]


@dataclass(frozen=True, slots=True)
class Step:
    """Nanoseconds of the parts of one layer in a decode step."""

    projections: Fraction
    attention: Fraction
    experts: Fraction

    @property
    def total(self) -> Fraction:
        """All parts, one after the other."""
        return self.projections + self.attention + self.experts


def step(model: MoeModel, batch: int, context: int, loads: list[int], array: ArrayEngine, pim: PimEngine | None = None) -> Step:
    """Return what a layer takes for `batch` requests of `context` tokens each.

    Parameters
    ----------
    model : MoeModel
    batch, context : int
    loads : list of int
        Tokens of each expert.
    array : ArrayEngine
    pim : PimEngine, optional
        With it, attention runs there, and the experts on both.

    Raises
    ------
    ConfigError
        If a number is negative, or the loads are not those of this model and batch.
    """
    check_count("batch", batch)
    if len(loads) != model.experts:
        raise ConfigError(f"loads must be one for each of {model.experts} experts, not {len(loads)}")
    for expert, load in enumerate(loads):
        check_count(f"load of expert {expert}", load, 0)
    if sum(loads) != batch * model.top:
        raise ConfigError(f"loads must add up to batch · top ({batch * model.top}), not {sum(loads)}")
    projections = array.time(batch, model.projection_bytes)
    kv = batch * model.kv_bytes(context)
    if pim is None:
        experts = sum((array.time(n, model.expert_bytes) for n in loads), Fraction(0))
        return Step(projections, array.time(model.group, kv), experts)
    return Step(projections, pim.time(model.group, kv), split_experts(loads, model.expert_bytes, array, pim).makespan)
