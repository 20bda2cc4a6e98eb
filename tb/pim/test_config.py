"""PimConfig: the table of published designs, validation, JSON."""

import dataclasses
import json

import pytest

from hw.errors import ConfigError
from hw.pim.config import PimConfig
from hw.pim.presets import PIM_PRESETS, pim_preset_named
from hw.pim.timing import TIMINGS, timing_named

# Of one pseudo-channel: bandwidth in GB/s, cycles an interval, lanes that keep up, MACs a cycle at that rate, op/B, GOPS.
TABLE = {
    "pim-duplex": (83.2, 2, 64, 512, 8, 666),
    "pim-attacc-buffer": (20.8, 1, 16, 16, 1, 21),
    "pim-attacc": (222, 3, 171, 171, 1, 222),
    "pim-hbm": (64, 1, 128, 128, 1, 64),
    "pim-aim": (512, 1, 256, 256, 1, 512),
    "pim-p3": (64, 2, 256, 512, 8, 512),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_published_design_follows_from_one_law(name):
    config = PIM_PRESETS[name]
    bandwidth, cycles, lanes, macs, op_per_byte, gops = TABLE[name]
    assert float(config.bandwidth) == pytest.approx(bandwidth, rel=2e-3)
    assert config.pim_per_burst == cycles
    assert float(config.lanes_needed) == pytest.approx(lanes, rel=2.5e-3)
    assert float(config.lanes_needed * config.rows_x) == pytest.approx(macs, rel=2.5e-3)
    assert config.op_per_byte == op_per_byte
    assert float(config.gops) == pytest.approx(gops, rel=1e-2)


def test_totals_of_a_stack():
    duplex, hbm, aim, amma = (PIM_PRESETS[name] for name in ("pim-duplex", "pim-hbm", "pim-aim", "pim-amma"))
    assert float(duplex.n_pch * duplex.gops) == pytest.approx(21.3e3, rel=2e-3)         # 21.3 TFLOPS
    assert duplex.n_pch * duplex.macs_per_cycle == 32 * 512
    assert float(hbm.n_pch * hbm.gops) == pytest.approx(1024, rel=1e-6)
    assert float(aim.n_pch * aim.gops) == 1024
    assert float(amma.n_pch * amma.bandwidth) == pytest.approx(2750, rel=2e-3)
    assert amma.n_pch * amma.lanes == 1536
    assert amma.n_pch * amma.macs_per_cycle == 24576 == 96 * 16 * 16
    assert 2 * amma.n_pch * amma.macs_per_cycle * amma.clock_mhz == pytest.approx(98.3e6, rel=1e-4)
    assert amma.op_per_byte == 32


def test_lanes_are_what_the_bandwidth_needs_except_beside_the_banks():
    for name, config in PIM_PRESETS.items():
        assert config.beats * config.lanes == config.burst_weights
        if "attacc" not in name or "buffer" in name:
            assert config.lanes == config.lanes_needed
    assert PIM_PRESETS["pim-attacc"].lanes == 32 * 16       # a unit of 16 in every bank, idle in 2 of 3 cycles


def test_who_has_a_softmax_unit():
    assert [name for name, config in PIM_PRESETS.items() if not config.has_softmax] == ["pim-p3"]       # its sums are integers
    for name in ("pim-attacc", "pim-attacc-bank-group", "pim-attacc-buffer"):
        assert PIM_PRESETS[name].n_pch * PIM_PRESETS[name].sm_lanes == 256                              # of a stack


def test_segments_are_the_units_of_published_designs():
    attacc, aim, amma = (PIM_PRESETS[name] for name in ("pim-attacc", "pim-aim", "pim-amma"))
    assert attacc.segments * attacc.width == 8 * 64         # a bank group of four units each
    assert attacc.xbuf_entries * attacc.width // 4 == 2 * 16 * 16       # 16 × 256 bit for each unit, double buffered
    assert aim.width == 16                                  # every bank an output of its own
    assert aim.xbuf_entries * aim.width * 2 == 2048         # the global buffer
    assert [config.token_beats(128) for config in (attacc, aim, amma)] == [2, 8, 1]
    assert [config.tokens_a_row(128) for config in (attacc, aim, amma)] == [32 // 2 * 8, 64 // 8 * 16, amma.columns * 2]


def test_row_periods():
    periods = {name: TIMINGS[timing].row_period(interval) for name, timing, interval in (
        ("logic", "hbm3-5.2", 4), ("attacc", "hbm3-5.2", 6), ("hbm-pim", "hbm2", 4), ("aim", "gddr6-aim", 2))}
    assert periods == {"logic": 170, "attacc": 232, "hbm-pim": 157, "aim": 226}


@pytest.mark.parametrize("name", TIMINGS)
def test_timings_hang_together(name):
    timing = timing_named(name)
    assert timing.name == name
    assert abs(timing.ras + timing.rp - timing.rc) <= 4     # each is rounded from nanoseconds
    assert timing.rcd <= timing.ras < timing.rc
    assert timing.ccd_s <= timing.ccd_l
    assert timing.rrd_s <= timing.rrd_l
    assert timing.rfc < timing.refi // 4
    assert timing.rfc * timing.tck_ps >= 100_000


def test_an_unknown_timing_and_preset_are_refused():
    with pytest.raises(ConfigError, match=r"^timing must be one of hbm3-4.8, .*, not 'hbm9'$"):
        timing_named("hbm9")
    with pytest.raises(ConfigError, match=r"^preset must be one of pim-tiny, .*, not 'pim'$"):
        pim_preset_named("pim")
    assert pim_preset_named("pim-tiny") is PIM_PRESETS["pim-tiny"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"n_pch": 0}, r"PimConfig.n_pch must be between 1 and 64, not 0"),
    ({"rows_x": 17}, r"PimConfig.rows_x must be between 1 and 16, not 17"),
    ({"streams": 3}, r"PimConfig.streams must be a power of two \(nearest: 4\), not 3"),
    ({"n_acc_slots": 5}, r"PimConfig.n_acc_slots must be a power of two \(nearest: 8\), not 5"),
    ({"n_acc_slots": 4}, r"PimConfig.n_acc_slots must be at least 8, more than the cycles of an addition, not 4"),
    ({"acc": "int16"}, r"PimConfig.acc must be one of float32, int32, not 'int16'"),
    ({"refresh": "never"}, r"PimConfig.refresh must be one of all-bank, same-bank, not 'never'"),
    ({"timing": "ddr5"}, r"PimConfig.timing must be one of hbm3-4.8, .*, not 'ddr5'"),
    ({"wtype": "nf4"}, r"PimConfig.wtype must be a format of float16, .*bitmod4, not 'nf4'"),
    ({"wtype": "fp16"}, r"PimConfig.wtype must be float16, the full name, not 'fp16'"),
    ({"xtype": "mxint4"}, r"PimConfig.xtype must be a format of float16, .*int8, not 'mxint4'"),
    ({"wtype": "int3"}, r"PimConfig.wtype must be a format of .*, not 'int3'"),
    ({"burst_bytes": 64}, r"PimConfig.burst_bytes must be 32, the burst of hbm3-5.2, not 64"),
    ({"interval": 1}, r"PimConfig.interval must be at least 2, the length of a burst, not 1"),
    ({"pim_per_burst": 3}, r"PimConfig.pim_per_burst must be 2, the PIM cycles in 4 DRAM clocks, not 3"),
    ({"lanes": 8}, r"PimConfig.lanes must be a divisor of the 32 weights of a burst, at least 16, not 8"),
    ({"sm_lanes": 32}, "PimConfig.sm_lanes must be between 1 and 16, not 32"),
    ({"streams": 1, "lanes": 8, "xbuf_entries": 16, "sm_lanes": 16},
     "PimConfig.sm_lanes must be at most 8, the lanes of a segment, not 16"),
    ({"lanes": 24}, r"PimConfig.lanes must be a divisor of the 32 weights of a burst, at least 16, not 24"),
    ({"kvtype": "int8"}, r"PimConfig.kvtype must be as wide as wtype \(16 bits\), not 'int8'"),
    ({"acc": "int32"}, r"PimConfig.acc must be float32 with weights that are no integers, not 'int32'"),
    ({"segments": 3}, r"PimConfig.segments must be a power of two \(nearest: 4\), not 3"),
    ({"segments": 4},
     r"PimConfig.segments must be at most 2: each has a stream or more, and as many lanes as there are segments, not 4"),
    ({"segments": 2, "sm_lanes": 1}, r"PimConfig.sm_lanes must be at least 2, the scores of an entry, not 1"),
    ({"k_tile": 40}, r"PimConfig.k_tile must be a multiple of the lanes of a segment \(16\), not 40"),
    ({"xbuf_entries": 4}, r"PimConfig.xbuf_entries must be at least 8, two tiles of K, not 4"),
    ({"streams": 32, "lanes": 256, "k_tile": 256},
     r"PimConfig.streams must be a divisor of the 32 banks of hbm3-5.2, over 2 bundles, not 32"),
    ({"streams": 1, "lanes": 8, "xbuf_entries": 16, "dram_rows": 40000},
     r"PimConfig.dram_rows must be at most 32768, what a command can name, not 40000"),
])
def test_an_impossible_value_is_refused(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(PimConfig(), **changes)


@pytest.mark.parametrize(("changes", "message"), [
    ({"lanes": True}, "PimConfig.lanes must be an integer, not True"),
    ({"timing": 3}, "PimConfig.timing must be a string, not 3"),
    ({"dcs": 1}, "PimConfig.dcs must be true or false, not 1"),
])
def test_a_wrong_type_is_refused(changes, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        dataclasses.replace(PimConfig(), **changes)


@pytest.mark.parametrize("name", PIM_PRESETS)
def test_json_round_trip_and_digest(name):
    config = PIM_PRESETS[name]
    assert PimConfig.from_json(config.to_json()) == config
    others = [other.digest() for key, other in PIM_PRESETS.items() if key != name]
    assert len(config.digest()) == 12
    assert config.digest() not in others


@pytest.mark.parametrize(("text", "message"), [
    ("[", r"a config must be a JSON object, not this text: .*"),
    ("[]", r"a config must be a JSON object, not list"),
    (json.dumps({"lane": 3}), r"PimConfig has no field 'lane' \(it has acc, .*\)"),
])
def test_json_that_is_no_config_is_refused(text, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        PimConfig.from_json(text)


def test_sizes():
    duplex = PIM_PRESETS["pim-duplex"]
    assert duplex.row_bytes == 8192
    assert duplex.row_sets == 4                         # the four bundles
    assert duplex.xbuf_entries * duplex.lanes * duplex.rows_x * 2 == 2 * 8192      # two halves of 8 rows × 512 FP16
    assert duplex.capacity_bytes == 4 * 8192 * 16384
