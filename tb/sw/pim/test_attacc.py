"""AttAcc's cycles against the results of its authors' simulator."""

import dataclasses

import pytest

from sw.pim.attacc import MEASURED, AttAccPoint, closed_form, simulate

POINT = AttAccPoint(place="bank", limited=True, tokens=4096, heads=188)


@pytest.mark.parametrize(("point", "cycles"), MEASURED, ids=lambda value: getattr(value, "place", str(value)))
def test_the_authors_results_are_met(point, cycles):
    assert abs(float(closed_form(point)) / cycles - 1) < 0.05
    assert abs(simulate(point) / cycles - 1) < 0.05


@pytest.mark.parametrize("place", ["bank", "bank-group", "buffer"])
@pytest.mark.parametrize("limited", [True, False])
@pytest.mark.parametrize("tokens", [2048, 3072, 4096, 8192])
def test_the_command_stream_takes_what_the_closed_form_says(place, limited, tokens):
    for rounds in (4, 6, 12, 32):
        point = AttAccPoint(place=place, limited=limited, tokens=tokens, heads=16 * rounds)
        assert abs(simulate(point) / float(closed_form(point)) - 1) < 0.05


def test_macs_of_a_head():
    assert 2 * POINT.macs == 1024
    assert POINT.rounds == 12
    assert dataclasses.replace(POINT, place="bank-group").macs == 2048
    assert dataclasses.replace(POINT, place="buffer").macs == 16384


def test_the_closed_form_by_hand():
    rows = 1024 // 32
    assert closed_form(POINT) * 4614 == 12 * (1024 * 6 + rows * 40) * 5070


def test_a_lone_head_shows_its_softmax():
    one, many = (AttAccPoint(place="bank", limited=True, tokens=8192, heads=16 * rounds) for rounds in (1, 8))
    assert simulate(one) / closed_form(one) > simulate(many) / closed_form(many)


@pytest.mark.parametrize(("changes", "message"), [
    ({"place": "die"}, "AttAccPoint.place must be one of bank, bank-group, buffer, not 'die'"),
    ({"tokens": 0}, "AttAccPoint.tokens must be at least 1, not 0"),
    ({"element_bytes": 3}, "AttAccPoint.element_bytes must be 1, 2 or 4, not 3"),
])
def test_an_impossible_point_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        dataclasses.replace(POINT, **changes)
