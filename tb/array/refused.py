"""What engines with packed weights and tiles of tokens refuse alike, whatever their formats: fields, cause, address."""

from hw.isa import ErrorCause

__all__ = ["refused_alike"]

Case = tuple[int, dict[str, int], ErrorCause, int]
"""Mode of a good command, its changed fields, cause, address at fault."""


def refused_alike(size: int) -> dict[str, Case]:
    """Return cases for a scratchpad of `size` bytes, two packed formats, and commands of 3 rows from row 2 of 64 on."""
    return {
        "m is zero": (1, {"m": 0}, ErrorCause.BAD_SIZE, 0),
        "n is zero": (0, {"n": 0}, ErrorCause.BAD_SIZE, 0),
        "k is zero": (2, {"k": 0}, ErrorCause.BAD_SIZE, 0),
        "output-stationary": (1, {"dataflow": 1}, ErrorCause.UNSUPPORTED, 1),
        "mode": (1, {"mode": 3}, ErrorCause.UNSUPPORTED, 3),
        "serialize": (1, {"serialize": 1}, ErrorCause.UNSUPPORTED, 1),
        "weight address": (1, {"weight_addr": 1025}, ErrorCause.MISALIGNED, 1025),
        "weight tile stride": (0, {"weight_tile_stride": 5}, ErrorCause.MISALIGNED, 5),
        "first rule wins": (0, {"weight_tile_stride": 5, "n": 0, "mode": 9}, ErrorCause.BAD_SIZE, 0),
        "later activation": (1, {"activation_addr": size - 64, "activation_stride": 49}, ErrorCause.SCRATCHPAD_RANGE, size + 34),
        "activation past 24 bits": (1, {"activation_addr": size - 64, "activation_stride": (1 << 24) - 1},
                                    ErrorCause.SCRATCHPAD_RANGE, (1 << 24) + size - 65),
        "first weight": (0, {"weight_addr": size}, ErrorCause.SCRATCHPAD_RANGE, size),
        "accumulator row": (0, {"acc_addr": 64}, ErrorCause.ACCUMULATOR_RANGE, 64),
        "later accumulator row": (1, {"acc_addr": 62, "n": 2}, ErrorCause.ACCUMULATOR_RANGE, 64),
        "accumulator group": (1, {"acc_tile_stride": 64}, ErrorCause.ACCUMULATOR_RANGE, 66),
        "accumulator row past 16 bits": (1, {"acc_addr": 10, "acc_tile_stride": 0xFFFF}, ErrorCause.ACCUMULATOR_RANGE,
                                         (1 << 16) + 9),
    }
