"""SDQ's arithmetic, against the table of the specification."""

import pytest

from hw.formats import format_named
from sw.sparsity.costs import sdq_cost, value_bits


@pytest.mark.parametrize(("name", "cost", "speedup", "bits"), [
    ("sdq-7:8-1:8int8-6:8fp4-g64", .25, 4.00, 4.0), ("sdq-6:8-2:8int8-4:8fp4-g64", .25, 4.00, 4.0),
    ("sdq-8:8-1:8int8-7:8fp4-g64", .28125, 3.56, 4.5), ("sdq-3:4-1:4int8-2:4fp4-g64", .25, 4.00, 4.0)])
def test_costs_of_the_specification(name, cost, speedup, bits):
    fmt = format_named(name)
    assert sdq_cost(fmt) == cost
    assert 1 / sdq_cost(fmt) == pytest.approx(speedup, abs=5e-3)
    assert value_bits(fmt) == bits
    assert sdq_cost(fmt, int8_rate=1, fp4_rate=2) == 2 * cost
