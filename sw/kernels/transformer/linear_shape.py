"""A linear of a model on a config: tiles of columns, chunks of K, and where its weights and parameters lie."""

from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div
from sw.engines import weight_layout
from sw.engines.runtime import WeightLayout
from sw.kernels.transformer.areas import AreaError
from sw.layout import round_up

__all__ = ["LARGEST_TILE", "WEIGHT_SLOTS", "Linear", "column_tile", "make_linear"]

WEIGHT_SLOTS = 4
LARGEST_TILE = 256          # columns; more would only lengthen the first and the last tile, when one unit waits


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """One linear of a model on a config.

    Attributes
    ----------
    name : str
    m : int
        Rows at most.
    k, n : int
        Inputs and outputs; with `gated` n counts the outputs of gate and up together.
    tile_n, chunk_k : int
        Columns of a tile (with `gated` half of them gate, half up) and inputs of a chunk.
    layout : WeightLayout
        Of the weights in DRAM.
    gated : bool
        Columns come as tiles of gate and up in turn; what is stored is SiLU(gate) · up.
    residual : bool
        The result is added to what the output holds.
    bias : bool
        A float32 for each output is added; with a residual, that is multiplied by a float32 for each output before.
    gelu : bool
        What is stored is GELU of the result; only with a bias.
    limits : tuple of float
        Largest magnitude of what the engine has made, in float32, or with `gated` of gate and of up; (): none.
    """

    name: str
    m: int
    k: int
    n: int
    tile_n: int
    chunk_k: int
    layout: WeightLayout
    gated: bool = False
    residual: bool = False
    bias: bool = False
    gelu: bool = False
    limits: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """Columns that are stored."""
        return self.n // 2 if self.gated else self.n

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights, then the columns' float32 scales, their biases, and the residual's factors, in DRAM."""
        return self.scales_offset + self.parameter_rows * self.parameter_bytes

    @property
    def scales_offset(self) -> int:
        """Where the scales begin."""
        return round_up(self.layout.size, 64)

    @property
    def parameter_bytes(self) -> int:
        """From the scales to the biases, and from those to the residual's factors."""
        return 4 * round_up(self.n, LARGEST_TILE)

    @property
    def parameter_rows(self) -> int:
        """Rows of scales, biases and factors."""
        return 1 + self.bias + (self.bias and self.residual)


def column_tile(config: AcceleratorConfig, m: int, weights: str = "") -> int:
    """Return the columns of a tile: a power of two whose rows fill at most half the accumulator.

    Where K can only be cut in long pieces, tiles are narrower, so that one's weights come while another's are multiplied.

    Raises
    ------
    AreaError
        If not even the outputs that share a stream fit.
    ConfigError
        If the config does not have this format.
    """
    layout, rows = weight_layout(config, config.columns, 1, weights), config.accumulator_rows // 2
    tile = layout.columns
    if tile > config.columns and m * tile // config.columns > rows:
        raise AreaError(f"rows of a linear must be at most {rows * config.columns // tile} (outputs that share a stream in "
                          f"half the accumulator), not {m}")
    while 2 * tile <= LARGEST_TILE and m * ceil_div(2 * tile, config.columns) <= rows:
        tile *= 2
    room = config.scratchpad_bank_bytes // WEIGHT_SLOTS
    while tile > 2 * layout.columns and tile // layout.columns * layout.record_bytes > room:
        tile //= 2
    return tile


def make_linear(config: AcceleratorConfig, name: str, m: int, k: int, n: int, *, gate_tile: int = 0,
                residual: bool = False, bias: bool = False, gelu: bool = False, weights: str = "") -> Linear:
    """Return a linear with its tiles chosen.

    Parameters
    ----------
    gate_tile : int
        Columns of gate and up together in a tile, where they come in turn; a divisor of n.
    weights : str
        Format of the weights, one of the config's; "" for plain ones.

    Raises
    ------
    ConfigError
        If the config does not have this format.
    """
    tile_n = gate_tile or column_tile(config, m, weights)
    layout = weight_layout(config, n, k, weights)
    room = config.scratchpad_bank_bytes // WEIGHT_SLOTS // ceil_div(tile_n, layout.columns)     # for a group's piece of a chunk
    chunk_k = layout.cut(room // layout.record_bytes * layout.record_k, config.rows)
    return Linear(name=name, m=m, k=k, n=n, tile_n=tile_n, chunk_k=min(chunk_k, round_up(k, layout.cut(0, config.rows))),
                  layout=layout, gated=gate_tile > 0, residual=residual, bias=bias, gelu=gelu)
