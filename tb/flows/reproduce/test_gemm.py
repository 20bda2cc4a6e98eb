"""Cycles of a GEMM as rows have them: predicted, or of the RTL if it is right."""

import pytest

from flows.reproduce import gemm
from hw.presets import preset_named


def measured(match: bool) -> type:
    found = type("Gemm", (), {"match": match, "replay": "file.replay", "cycles": 70, "predicted_cycles": 60})
    return type("Report", (), {"gemms": [found]})


def test_a_gemm_that_the_rtl_gets_wrong_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "RtlDevice", lambda config: None)
    monkeypatch.setattr(gemm, "measure", lambda *args, **more: measured(match=False))
    with pytest.raises(ValueError, match=r"^a GEMM in int8 must come out of the RTL as of the golden model; see: heddle replay "
                                         r"file\.replay$"):
        gemm.gemm_cycles(preset_named("bitmod-8x8"), "int8", (8, 8, 8), rtl=True)


@pytest.mark.parametrize(("rtl", "cycles", "source"), [(True, 70, "simulated"), (False, 60, "predicted (with --rtl: simulated)")])
def test_a_row_says_where_its_cycles_come_from(monkeypatch: pytest.MonkeyPatch, rtl: bool, cycles: int, source: str) -> None:
    monkeypatch.setattr(gemm, "RtlDevice", lambda config: "device")
    monkeypatch.setattr(gemm, "measure", lambda workload, config, device, dataflow: measured(match=(device == "device") == rtl))
    assert gemm.gemm_cycles(preset_named("bitmod-8x8"), "int8", (8, 8, 8), rtl=rtl) == cycles
    assert gemm.how(rtl) == source


def test_packed_weights_take_fewer_cycles() -> None:
    config = preset_named("bitmod-8x8")
    plain, packed = (gemm.gemm_cycles(config, name, (16, 16, 256), rtl=False) for name in ("int8", "bitmod4-g128"))
    assert plain > packed > plain / 2
