"""Passes of rotary position embedding (Su et al., RoFormer, 2021) of pairs (i, i + E/2), as in Llama checkpoints of Hugging Face.

Models that rotate neighbours (2i, 2i + 1) are brought to this order when they are loaded: `sw.models.rope_order`.
"""

from sw.kernels.passes.command import Floats, Operand, Pass, vector_pass

__all__ = ["rope", "rope_in_place"]


def rope(m: Operand, half: Operand, low: Floats, high: Floats, cos: Floats, sin: Floats, to_low: Floats, to_high: Floats, *,
         amax: Operand | None = None, seed: Operand | None = None) -> list[Pass]:
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
        The rotated halves; elsewhere than `low` and `high`, since they hold the products with sin in between.
    amax : Operand
        Row scalar of max |.| over both halves, not below `seed`.
    """
    return [
        vector_pass("rope: high · sin", a=high, m=m, n=half, scale=sin, times=-1.0, to=to_low),
        vector_pass("rope: low", a=low, m=m, n=half, scale=cos, add=to_low, amax_to=amax, seed=seed, to=to_low),
        vector_pass("rope: low · sin", a=low, m=m, n=half, scale=sin, to=to_high),
        vector_pass("rope: high", a=high, m=m, n=half, scale=cos, add=to_high, amax_to=amax, seed=amax, to=to_high),
    ]


def rope_in_place(m: int, half: int, addr: int, products: int, cos: Floats, sin: Floats, *, minus_one: Operand,
                  amax: Operand) -> list[Pass]:
    """Rotate rows of two halves, one behind the other, where they lie, in three passes: the first takes halves for rows.

    Parameters
    ----------
    m, half : int
        Rows; columns of half of one.
    addr, products : int
        Address of the rows, and of room for as many.
    cos, sin : Floats
        One row of `half`.
    minus_one : Operand
        Row scalars, each −1: low · cos − high · sin is made as −(−low · cos + high · sin).
    amax : Operand
        Row scalar of max |.| of each row.
    """
    halves, row = 4 * half, 8 * half
    low, high = Floats(addr, row), Floats(addr + halves, row)
    low_sin, high_sin = Floats(products, row), Floats(products + halves, row)
    return [
        vector_pass("rope: · sin", a=Floats(addr, halves), m=2 * m, n=half, scale=sin, to=Floats(products, halves)),
        vector_pass("rope: low", a=low, m=m, n=half, scale=cos, row=minus_one, add=high_sin, times=-1.0, amax_to=amax, to=low),
        vector_pass("rope: high", a=high, m=m, n=half, scale=cos, add=low_sin, amax_to=amax, seed=amax, to=high),
    ]
