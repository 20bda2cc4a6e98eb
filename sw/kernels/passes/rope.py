"""Passes of rotary position embedding (Su et al., RoFormer, 2021) of pairs (i, i + E/2), as in Llama checkpoints of Hugging Face.

Models that rotate neighbours (2i, 2i + 1) are brought to this order when they are loaded: `sw.models.rope_order`.
"""

from sw.kernels.passes.command import Floats, Operand, Pass, vector_pass

__all__ = ["rope"]


def rope(m: Operand, half: Operand, low: Floats, high: Floats, cos: Floats, sin: Floats, to_low: Floats, to_high: Floats, *,
         products: tuple[Floats, Floats] | None = None, amax: Operand | None = None, seed: Operand | None = None) -> list[Pass]:
    """low · cos − high · sin and high · cos + low · sin → float32.

    Rows are tokens of one head, with a row of the tables for each (prefill), or heads of one token, with one row for all
    (stride 0, decode).

    Parameters
    ----------
    half : Operand
        Columns of half a head, E/2.
    low, high : Floats
        Halves of the rows; kept.
    cos, sin : Floats
        Rows of E/2.
    to_low, to_high : Floats
        The rotated halves.
    products : (Floats, Floats) or None
        Where products with sin lie in between, by default where the halves will be; elsewhere than `low` and `high`. With places
        of their own the halves may be rotated where they lie.
    amax : Operand
        Row scalar of max |.| over both halves, not below `seed`.
    """
    high_sin, low_sin = products or (to_low, to_high)
    return [
        vector_pass("rope: high · sin", a=high, m=m, n=half, scale=sin, times=-1.0, to=high_sin),
        vector_pass("rope: low · sin", a=low, m=m, n=half, scale=sin, to=low_sin),
        vector_pass("rope: low", a=low, m=m, n=half, scale=cos, add=high_sin, amax_to=amax, seed=seed, to=to_low),
        vector_pass("rope: high", a=high, m=m, n=half, scale=cos, add=low_sin, amax_to=amax, seed=amax, to=to_high),
    ]
