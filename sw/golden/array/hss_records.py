"""Records of structured-sparse weights as the engine's columns read them: bytes → dense matrices, and what no record may have."""

import numpy as np
import numpy.typing as npt

from hw.engines.hss import HssMode

__all__ = ["bad_coordinates", "dense_weights"]

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_INLIER_BYTES = (1, 4, 5), (3, 6, 7)            # values of a group that hold the inliers of its two eights, two each
_OUTLIER_BYTES = 0, 2
_E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])


def _parts(mode: HssMode, records: Bytes) -> tuple[Ints, Ints]:
    """Return coordinates (…, groups, 4, C) and values (…, groups, 8, C) of records (…, slots, C), bytes as integers."""
    slots, columns = records.shape[-2:]
    groups = slots // (8 if mode.dense else 12)
    split = slots - 8 * groups
    return (records[..., :split, :].reshape(*records.shape[:-2], groups, split // groups, columns).astype(np.int64),
            records[..., split:, :].reshape(*records.shape[:-2], groups, 8, columns).astype(np.int64))


def _block_places(coordinates: Ints) -> Ints:
    """Return the four block coordinates of each group: (…, groups, 4, C)."""
    low, high = coordinates[..., :2, :] & 15, coordinates[..., :2, :] >> 4
    return np.stack([low, high], axis=-2).reshape(*coordinates.shape[:-2], 4, coordinates.shape[-1])


def _value_places(coordinates: Ints) -> Ints:
    """Return the value coordinates of each group: (…, groups, 4, 2, C)."""
    fields = np.stack([coordinates[..., 2:, :] >> 2 * index & 3 for index in range(4)], axis=-2)
    return fields.reshape(*coordinates.shape[:-2], 4, 2, coordinates.shape[-1])


def _signed(values: Ints) -> Ints:
    return (values ^ 128) - 128


def _scatter(places: Ints, values: Ints, size: int) -> Ints:
    """Return zeros (…, size, C) with `values` (…, count, C) at `places`."""
    found = np.zeros((*places.shape[:-2], size, places.shape[-1]), np.int64)
    np.put_along_axis(found, places, values, axis=-2)
    return found


def dense_weights(mode: HssMode, records: Bytes) -> list[Ints]:
    """Return the dense weights (…, K, C) of records (…, steps, slots, C), in order of K; with SDQ outliers, then inliers.

    Coordinates must be right (`bad_coordinates`). Inliers come with their power of two.
    """
    coordinates, values = _parts(mode, records)
    if mode.dense:
        return [_joined(_signed(values))]
    if not mode.sdq:
        places = _block_places(coordinates)[..., None, :] * mode.h0 + _value_places(coordinates)
        flat = places.reshape(*places.shape[:-3], 8, places.shape[-1])
        return [_joined(_scatter(flat, _signed(values), mode.group))]
    outliers, inliers = [], []
    unit = 1 << (coordinates[..., 1, :] & 7)
    for eight in range(2):
        place = coordinates[..., 0, :] >> 4 * eight & 7
        outliers.append(_scatter(place[..., None, :], _signed(values[..., [_OUTLIER_BYTES[eight]], :]), 8))
        without = [coordinates[..., 2 + eight, :] >> 4 * which & 7 for which in range(2)]
        pairs = values[..., list(_INLIER_BYTES[eight]), :]
        codes = np.stack([pairs & 15, pairs >> 4], axis=-2).reshape(*pairs.shape[:-2], 6, pairs.shape[-1])
        # The inliers lie, in order, at all places but two.
        spread = np.arange(6)[:, None] + np.zeros_like(codes)
        spread += spread >= without[0][..., None, :]
        spread += spread >= without[1][..., None, :]
        inliers.append(_scatter(spread, _E2M1[codes] * unit[..., None, :], 8))
    return [_joined(np.concatenate(parts, axis=-2)) for parts in (outliers, inliers)]


def _joined(groups: Ints) -> Ints:
    """Return (…, steps, groups, inputs, C) as (…, K, C)."""
    return groups.reshape(*groups.shape[:-4], -1, groups.shape[-1])


def bad_coordinates(mode: HssMode, records: Bytes) -> npt.NDArray[np.bool_]:
    """Return which slots (…, slots) of records (…, slots, C) hold coordinates that are out of range or not increasing."""
    bad = np.zeros(records.shape[:-1], np.bool_)
    if mode.dense:
        return bad
    coordinates, _ = _parts(mode, records)
    groups = coordinates.shape[-3]
    wrong = np.zeros(coordinates.shape, np.bool_)                                   # (…, groups, 4, C)
    low, high = coordinates & 15, coordinates >> 4
    if mode.sdq:
        wrong[..., 0, :] = (low[..., 0, :] > 7) | (high[..., 0, :] > 7)
        wrong[..., 1, :] = (low[..., 1, :] > 4) | (high[..., 1, :] > 0)
        wrong[..., 2:, :] = (low[..., 2:, :] >= high[..., 2:, :]) | (high[..., 2:, :] > 7)
    else:
        blocks, places = _block_places(coordinates), _value_places(coordinates)
        late = blocks >= mode.h1
        late[..., 1:, :] |= np.diff(blocks, axis=-2) <= 0
        wrong[..., 0, :] = late[..., :2, :].any(axis=-2)
        wrong[..., 1, :] = late[..., 2:, :].any(axis=-2)
        off = (places[..., 1, :] >= mode.h0) | (places[..., 0, :] >= places[..., 1, :])     # (…, groups, 4, C)
        wrong[..., 2, :] = off[..., :2, :].any(axis=-2)
        wrong[..., 3, :] = off[..., 2:, :].any(axis=-2)
    bad[..., :4 * groups] = wrong.any(axis=-1).reshape(*bad.shape[:-1], 4 * groups)
    return bad
