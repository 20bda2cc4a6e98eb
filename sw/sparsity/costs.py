"""What decomposed formats cost: multiplications by their rates, bits by their kinds."""

from hw.families import OutlierFormat

__all__ = ["FP4_RATE", "INT8_RATE", "sdq_cost", "value_bits"]

INT8_RATE, FP4_RATE = 2, 4
"""Multiplications in the time of one in float16, as SDQ's authors count."""


def sdq_cost(fmt: OutlierFormat, *, int8_rate: float = INT8_RATE, fp4_rate: float = FP4_RATE) -> float:
    """Return the time of a product with weights in `fmt` over that of a dense one at rate 1.

    Outliers multiply int8, inliers FP4: N_o/M / int8_rate + N_i/M / fp4_rate. The speedup is its inverse; over a dense int8 core
    whose FP4 lanes are twice as fast, `int8_rate` 1 and `fp4_rate` 2.

    Source: Jeong et al., SDQ, arXiv 2406.13868 (grade: derived; 4× for 1:8 int8 and 6:8 FP4 is published).
    """
    return fmt.outliers / fmt.group / int8_rate + fmt.inliers / fmt.group / fp4_rate


def value_bits(fmt: OutlierFormat) -> float:
    """Return the bits of a weight without coordinates and scales."""
    return (8 * fmt.outliers + fmt.element.bits * fmt.inliers) / fmt.group
