"""Yosys's arithmetic on values of any width, as operations on words of 32 bits."""

from flows.fault.netlist.ir import WORD
from flows.fault.netlist.values import Builder, Value, mask, width_of

__all__ = ["add", "equal", "less", "multiply", "reduce", "shift"]

_LIMB = 16


def _narrow(build: Builder, nodes: list[int], width: int) -> Value:
    return build.runs(nodes, width)


def add(build: Builder, a: Value, b: Value, *, subtract: bool) -> Value:
    """Return a ± b; both, and the result, have the width of `a`."""
    width = width_of(a)
    if width <= WORD:
        return _narrow(build, [build.add("sub" if subtract else "add", (build.word(a), build.word(b)), width)], width)
    found = []
    carry = build.constant(1 if subtract else 0)
    for low in range(0, width, WORD):
        bits = min(WORD, width - low)
        x, y = build.word(build.cut(a, low, low + bits)), build.word(build.cut(b, low, low + bits))
        if subtract:
            y = build.invert(y, bits)
        partial = build.plus(x, y, bits)
        total = build.plus(partial, carry, bits)
        found.append(total)
        if low + WORD < width:
            carry = build.constant(0)
            for after, before in ((partial, x), (total, partial)):
                if after != before:
                    carry = build.either(carry, build.add("ltu", (after, before), 1))
    return _narrow(build, found, width)


def multiply(build: Builder, a: Value, b: Value) -> Value:
    """Return a · b; both, and the result, have the width of `a`. More than 32 bits go by limbs of 16, column by column."""
    width = width_of(a)
    if width <= WORD:
        return _narrow(build, [build.add("mul", (build.word(a), build.word(b)), width)], width)
    limbs = -(-width // _LIMB)
    x, y = ([build.word(build.cut(v, i * _LIMB, (i + 1) * _LIMB)) for i in range(limbs)] for v in (a, b))
    columns: list[list[int]] = [[] for _ in range(limbs + 1)]
    for i in range(limbs):
        for j in range(limbs - i):
            if build.is_constant(x[i], 0) or build.is_constant(y[j], 0):
                continue
            product = build.add("mul", (x[i], y[j]), WORD)
            columns[i + j].append(build.add("slice", (product,), _LIMB, 0))
            columns[i + j + 1].append(build.add("slice", (product,), _LIMB, _LIMB))
    value: Value = []
    carry = build.constant(0)
    for column in columns[:limbs]:
        total = carry
        for part in column:
            total = build.plus(total, part)
        low = build.word(build.cut(_narrow(build, [total], WORD), 0, _LIMB))
        value += build.cut(_narrow(build, [low], _LIMB), 0, _LIMB)
        carry = build.word(build.cut(_narrow(build, [total], WORD), _LIMB, WORD))
    return build.cut(build.join(value), 0, width)


def reduce(build: Builder, kind: str, value: Value) -> int:
    """Return one bit: `any`, `all`, or `parity` of a value's bits."""
    words = build.words(value)
    found = -1
    for i, word in enumerate(words):
        width = min(WORD, width_of(value) - WORD * i)
        if kind == "parity":
            found = word if found < 0 else build.add("xor", (found, word), WORD)
            continue
        bit = word if width == 1 else build.add(kind, (word,), 1, mask(width))
        found = bit if found < 0 else (build.either if kind == "any" else build.both)(found, bit)
    if found < 0:
        return build.constant(1 if kind == "all" else 0)
    return build.add("parity", (found,), 1) if kind == "parity" else found


def equal(build: Builder, a: Value, b: Value) -> int:
    """Return whether two values of equal width are equal."""
    found = build.constant(1)
    for x, y in zip(build.words(a), build.words(b), strict=True):
        found = build.both(found, build.add("eq", (x, y), 1))
    return found


def less(build: Builder, a: Value, b: Value, *, signed: bool) -> int:
    """Return whether a < b; both of equal width."""
    xs, ys = build.words(a), build.words(b)
    top = width_of(a) - WORD * (len(xs) - 1)
    found = -1
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        last = signed and i == len(xs) - 1
        below = build.add("lts", (build.signed(x, top), build.signed(y, top)), 1) if last else build.add("ltu", (x, y), 1)
        found = below if found < 0 else build.either(below, build.both(build.add("eq", (x, y), 1), found))
    return found


def _fixed(build: Builder, value: Value, amount: int, left: bool, fill: Value) -> Value:
    """Return `value` shifted by a constant, `fill` (one bit) coming in on the right shift."""
    width = width_of(value)
    amount = min(amount, width)
    if left:
        return build.join([(-1, 0, amount), *build.cut(value, 0, width - amount)])
    return build.join([*build.cut(value, amount, width), *(fill * amount)])


def shift(build: Builder, value: Value, amount: Value, *, left: bool, arithmetic: bool = False) -> Value:
    """Return `value` shifted by `amount`, in its own width; `arithmetic`: its sign comes in on the right.

    Up to 32 bits in one operation, with what goes out beyond decided apart; wider values in one step for each bit of `amount`.
    """
    width = width_of(value)
    sign = build.cut(value, width - 1, width)
    fill: Value = sign if arithmetic else [(-1, 0, 1)]
    if all(run[0] < 0 for run in amount):
        total = sum(run[1] for run in build.join(amount))
        return _fixed(build, value, total, left, fill)
    if width <= WORD:
        small = build.word(build.cut(amount, 0, 5))
        word = build.word(value)
        op = "shl" if left else "shr"
        if arithmetic:
            op, word = "sar", build.signed(word, width)
        found = build.add(op, (word, small), WORD if arithmetic else width)
        if width_of(amount) > 5:
            beyond = reduce(build, "any", build.cut(amount, 5, width_of(amount)))
            all_out = build.word(fill * width) if arithmetic else build.constant(0)
            found = build.choose(beyond, build.word(build.cut(_narrow(build, [found], WORD), 0, width)), all_out, width)
        return build.cut(build.join([(found, 0, build.design.nodes[found].width)]), 0, width)
    for k in range(width_of(amount)):
        step = build.cut(amount, k, k + 1)
        if step[0][0] < 0 and not step[0][1]:
            continue
        bit = build.word(step)
        moved = _fixed(build, value, min(1 << k, width) if k < 32 else width, left, fill)
        words = [build.choose(bit, x, y, min(WORD, width - WORD * i))
                 for i, (x, y) in enumerate(zip(build.words(value), build.words(moved), strict=True))]
        value = _narrow(build, words, width)
    return value
