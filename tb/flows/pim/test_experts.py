"""A mixture-of-experts layer on the RTL of an array and of a PIM: the bits of the golden devices, whoever runs which expert."""

import numpy as np
import pytest

from flows.pim.rtl_device import RtlPimDevice
from flows.rtl_device import RtlDevice
from sw.pim.experts import ArrayExperts, PimExperts, run_layer
from tb.sw.pim.test_experts import ARRAY, PIM, by_tokens, engines, layer


@pytest.mark.full
def test_the_rtl_of_both_makes_the_bits_of_the_golden_devices():
    experts, x, routing, output = layer(2)
    split, numbered = by_tokens(routing), dict(enumerate(experts))
    golden = run_layer(routing, x, split, *engines(experts))
    device = RtlPimDevice(PIM, channels=1)
    session = device.open()
    try:
        run = run_layer(routing, x, split, ArrayExperts(numbered, RtlDevice(ARRAY)), PimExperts(numbered, session, PIM, 1))
    finally:
        session.close()
    np.testing.assert_array_equal(run.output, golden.output)
    np.testing.assert_allclose(run.output, output, atol=0.05 * np.abs(output).max())
    assert set(run.cycles) == {*split.array, *split.pim}
    assert min(run.cycles.values()) > 0
    # As many columns as its weights have for each X rows of tokens, at least.
    load = routing.load(len(experts))
    for number in split.pim:
        weights = sum(matrix.size for matrix in (experts[number].gate, experts[number].up, experts[number].down))
        assert run.cycles[number] >= -(-load[number] // PIM.rows_x) * weights // PIM.lanes
