"""How many non-zeros a tile of a sparse tensor holds: models that need no data, and the data themselves.

Source: Wu et al., Sparseloop, MICRO 2022 (its density models). Each function returns P(k non-zeros) for k = 0 … tile,
(tile + 1,) float64.
"""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["Distribution", "banded", "binomial", "expected", "expected_chunks", "of_data", "structured", "uniform"]

Distribution = npt.NDArray[np.float64]


def structured(tile: int, nonzero: int) -> Distribution:
    """Return the distribution of a tensor whose tiles all hold exactly `nonzero`: N:M patterns, tile a multiple of M."""
    if not 0 <= nonzero <= tile:
        raise ValueError(f"nonzero must be between 0 and the tile's {tile} values, not {nonzero}")
    found = np.zeros(tile + 1)
    found[nonzero] = 1
    return found


def uniform(size: int, nonzero: int, tile: int) -> Distribution:
    """Return the hypergeometric distribution: `nonzero` of `size` places drawn without regard to where the tile is."""
    if not (0 <= nonzero <= size and 0 <= tile <= size):
        raise ValueError(f"nonzero and tile must be between 0 and the tensor's {size} values, not {nonzero} and {tile}")
    ways = math.comb(size, tile)
    # Ratios of integers: exact until the one division, however large the tensor.
    return np.array([math.comb(nonzero, k) * math.comb(size - nonzero, tile - k) / ways for k in range(tile + 1)])


def binomial(tile: int, density: float) -> Distribution:
    """Return the limit of `uniform` for a tensor far larger than its tile."""
    if not 0 <= density <= 1:
        raise ValueError(f"density must be between 0 and 1, not {density}")
    return np.array([math.comb(tile, k) * density**k * (1 - density)**(tile - k) for k in range(tile + 1)])


def banded(rows: int, columns: int, half_width: int, tile_rows: int, tile_columns: int) -> Distribution:
    """Return the distribution over the tiles of a matrix that is zero but where |row − column| ≤ half_width.

    Only whole tiles count; the tile has tile_rows · tile_columns values.
    """
    if half_width < 0:
        raise ValueError(f"half_width must not be negative, not {half_width}")
    row, column = np.ogrid[:rows, :columns]
    return of_data(np.abs(row - column) <= half_width, tile_rows, tile_columns)


def of_data(mask: npt.NDArray[np.bool_], tile_rows: int, tile_columns: int) -> Distribution:
    """Return the distribution over the whole tiles of a mask (rows, columns)."""
    rows, columns = mask.shape[0] // tile_rows, mask.shape[1] // tile_columns
    if not rows or not columns:
        raise ValueError(f"a tile must fit the mask of {mask.shape[0]}×{mask.shape[1]}, not {tile_rows}×{tile_columns}")
    tiles = mask[:rows * tile_rows, :columns * tile_columns].reshape(rows, tile_rows, columns, tile_columns)
    counts = np.count_nonzero(tiles, axis=(1, 3)).ravel()
    return np.bincount(counts, minlength=tile_rows * tile_columns + 1) / counts.size


def expected(distribution: Distribution) -> float:
    """Return the mean number of non-zeros."""
    return float(distribution @ np.arange(len(distribution)))


def expected_chunks(distribution: Distribution, lanes: int) -> float:
    """Return the mean of ⌈non-zeros / lanes⌉: cycles of a tile that `lanes` multipliers take packed together."""
    if lanes < 1:
        raise ValueError(f"lanes must be at least 1, not {lanes}")
    return float(distribution @ -(-np.arange(len(distribution)) // lanes))
