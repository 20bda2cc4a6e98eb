"""AMMA's 16 cubes: links, two levels of parallelism, and what decode attention costs there.

Source: AMMA, arXiv 2604.26103, and what documents of a simulator that seems to be its authors' say. 16 memory cubes with
compute dies in a 4×4 mesh; heads are split over `tp_h` blocks of 2×2 cubes, the sequence over the `tp_s` cubes of a block. The
reordered flow: all-gather of Q, K, V in a block; local (m, l, O); reduce-scatter of the output along head_dim in the block; the
row shard of the output projection; one tree reduction over all cubes.

A step of a collective takes hops · 15 ns + 10 ns + bytes / 1.5 TB/s.
"""

from dataclasses import dataclass
from fractions import Fraction

from hw.config import ceil_div
from hw.errors import ConfigError
from sw.pim.limits import check_count, check_rate

__all__ = ["LLAMA4_MAVERICK", "QWEN3_235B", "AttentionShape", "Links", "Partition", "communication", "kv_bytes", "kv_time",
           "projection_bytes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionShape:
    """One layer's attention of a model."""

    model: int
    query_heads: int
    kv_heads: int
    head_dim: int

    def __post_init__(self) -> None:
        """Check that there is something of each."""
        for name in ("model", "query_heads", "kv_heads", "head_dim"):
            check_count(f"AttentionShape.{name}", getattr(self, name))

    @property
    def group(self) -> int:
        """Query heads for each KV head."""
        return self.query_heads // self.kv_heads


QWEN3_235B = AttentionShape(model=4096, query_heads=64, kv_heads=4, head_dim=128)
LLAMA4_MAVERICK = AttentionShape(model=5120, query_heads=40, kv_heads=8, head_dim=128)


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Die-to-die links: nanoseconds, and bytes a nanosecond."""

    hop: Fraction = Fraction(15)
    endpoint: Fraction = Fraction(10)
    bandwidth: Fraction = Fraction(1500)

    def __post_init__(self) -> None:
        """Check that time does not run backwards."""
        check_rate("Links.hop", self.hop, zero=True)
        check_rate("Links.endpoint", self.endpoint, zero=True)
        check_rate("Links.bandwidth", self.bandwidth)

    def step(self, nbytes: Fraction | int, hops: int = 1) -> Fraction:
        """Return the nanoseconds of one step of a collective."""
        check_rate("bytes", nbytes, zero=True)
        check_count("hops", hops, 0)
        return hops * self.hop + self.endpoint + nbytes / self.bandwidth

    def ring(self, nodes: int, nbytes: Fraction | int) -> Fraction:
        """Return the nanoseconds of an all-gather or reduce-scatter of pieces of `nbytes`: nodes − 1 steps."""
        check_count("nodes", nodes)
        return (nodes - 1) * self.step(nbytes)

    def tree(self, nodes: int, nbytes: Fraction | int) -> Fraction:
        """Return the nanoseconds of a reduction over a tree: log₂(nodes) steps of the whole message."""
        check_count("nodes", nodes)
        return (nodes - 1).bit_length() * self.step(nbytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """Cubes = tp_h blocks of heads × tp_s shards of the sequence.

    Raises
    ------
    ConfigError
        If heads or head_dim do not divide.
    """

    shape: AttentionShape
    tp_h: int = 4
    tp_s: int = 4

    def __post_init__(self) -> None:
        """Check that everything divides."""
        for name in ("tp_h", "tp_s"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1 or value & (value - 1):
                raise ConfigError(f"Partition.{name} must be a power of two, not {value!r}")
        if self.shape.query_heads % self.shape.kv_heads:
            raise ConfigError(f"AttentionShape.query_heads must be a multiple of kv_heads ({self.shape.kv_heads}), "
                              f"not {self.shape.query_heads!r}")
        if self.shape.kv_heads % self.tp_h:
            raise ConfigError(f"Partition.tp_h must be a divisor of the {self.shape.kv_heads} KV heads, not {self.tp_h!r}")
        if self.shape.head_dim % self.tp_s:
            raise ConfigError(f"Partition.tp_s must be a divisor of head_dim ({self.shape.head_dim}), not {self.tp_s!r}")

    @property
    def cubes(self) -> int:
        """Cubes in all."""
        return self.tp_h * self.tp_s

    def heads_of(self, cube: int) -> range:
        """Return the KV heads of a cube: cube = block · tp_s + shard."""
        check_count("cube", cube, 0, self.cubes - 1)
        each = self.shape.kv_heads // self.tp_h
        return range(cube // self.tp_s * each, (cube // self.tp_s + 1) * each)

    def tokens_of(self, cube: int, tokens: int) -> range:
        """Return the tokens of a cube's sequence shard: contiguous, as even as whole tokens allow, the first shards longer."""
        check_count("cube", cube, 0, self.cubes - 1)
        check_count("tokens", tokens, 0)
        each, more = divmod(tokens, self.tp_s)
        shard = cube % self.tp_s
        start = shard * each + min(shard, more)
        return range(start, start + each + (shard < more))


def communication(partition: Partition, batch: int, *, links: Links | None = None, bytes_each: int = 1) -> dict[str, Fraction]:
    """Return the nanoseconds of the collectives of one layer by name, and their `total`.

    Parameters
    ----------
    partition : Partition
    batch : int
        Requests that decode together.
    links : Links, optional
    bytes_each : int
        Bytes of an element; FP8: 1.
    """
    check_count("batch", batch)
    check_count("bytes_each", bytes_each)
    links, shape = links or Links(), partition.shape
    scale = batch * bytes_each
    gathered = Fraction(scale * (shape.query_heads + 2 * shape.kv_heads) * shape.head_dim, partition.tp_h * partition.tp_s)
    scattered = Fraction(scale * shape.query_heads * shape.head_dim, partition.tp_h * partition.tp_s)
    times = {"all_gather": links.ring(partition.tp_s, gathered), "reduce_scatter": links.ring(partition.tp_s, scattered),
             "tree": links.tree(partition.cubes, scale * shape.model)}
    return {**times, "total": sum(times.values(), Fraction(0))}


def kv_bytes(shape: AttentionShape, tokens: int, *, bytes_each: int = 1) -> int:
    """Return the bytes of K and V of one layer."""
    check_count("tokens", tokens, 0)
    check_count("bytes_each", bytes_each)
    return 2 * shape.kv_heads * shape.head_dim * tokens * bytes_each


def kv_time(partition: Partition, tokens: int, *, bandwidth: Fraction = Fraction(2500)) -> Fraction:
    """Return the nanoseconds to read K and V of one layer, by the cube with the longest shard; bytes a nanosecond and cube."""
    check_count("tokens", tokens, 0)
    check_rate("bandwidth", bandwidth)
    longest = ceil_div(tokens, partition.tp_s)
    return Fraction(kv_bytes(partition.shape, longest), partition.tp_h) / bandwidth


def projection_bytes(partition: Partition, *, bytes_each: int = 1) -> Fraction:
    """Return the bytes of the Q, K, V and output projections that one cube reads for a layer."""
    check_count("bytes_each", bytes_each)
    shape = partition.shape
    columns = 2 * shape.query_heads + 2 * shape.kv_heads
    return Fraction(shape.model * columns * shape.head_dim * bytes_each, partition.cubes)
