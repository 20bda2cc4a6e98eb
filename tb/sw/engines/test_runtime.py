"""How weights lie, whatever the engine: arithmetic of streams and chunks, plain weights, and formats that a config lacks."""

from dataclasses import replace

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.presets import preset_named
from sw.engines import ENGINES, default_weights, engine_runtime, pack_weights, weight_layout
from sw.engines.runtime import WeightLayout
from sw.golden.array import MATRIX_MODELS, matrix_model
from sw.layout import packed_weights
from tb.sw.configs import CONFIGS

CONFIG = preset_named("systolic-16x16")
RECORDS = WeightLayout(mode=3, n=70, k=300, columns=16, granule=128, record_k=64, record_bytes=24, weight_stride=8, beat_bytes=16)


def test_a_stream_has_whole_records():
    assert [RECORDS.bytes_of(k) for k in (0, 1, 64, 65, 300)] == [0, 24, 24, 48, 120]


def test_groups_start_at_beats():
    assert (RECORDS.groups, RECORDS.group_stride, RECORDS.size) == (5, 128, 640)


@pytest.mark.parametrize(("k", "multiple", "cut"), [(0, 1, 128), (300, 1, 256), (1000, 1, 896), (1000, 3, 768), (5, 3, 384)])
def test_chunks_are_whole_granules_and_beats(k, multiple, cut):
    assert RECORDS.cut(k, multiple) == cut
    assert RECORDS.bytes_of(cut) % RECORDS.beat_bytes == 0


def test_a_granule_that_ends_within_a_beat_is_cut_by_several():
    assert replace(RECORDS, granule=64).cut(0) == 128


@pytest.mark.parametrize("name", CONFIGS)
def test_plain_weights_lie_as_the_matrix_layout_says(name):
    config, rng = CONFIGS[name], np.random.default_rng(3)
    layout, expected = weight_layout(config, 21, 37), packed_weights(config, 37, 21)
    assert (layout.mode, layout.size, layout.group_stride) == (0, expected.size, expected.group_stride)
    packed, scale = pack_weights(config, layout, rng.standard_normal((21, 37)).astype(np.float32))
    assert packed.shape == (layout.size,)
    assert scale.shape == (21,)


def test_plain_weights_are_rounded_to_nearest_even_with_a_scale_for_each_output():
    matrix = np.array([[127, 0.5, 1.5, -127], [0, 0, 0, 0], [2, -1, 1, 0.25]], np.float32)
    packed, scale = pack_weights(CONFIG, weight_layout(CONFIG, 3, 4), matrix)
    found = packed_weights(CONFIG, 4, 3).unpack(packed)[0].T
    assert found.tolist() == [[127, 0, 2, -127], [0, 0, 0, 0], [127, -64, 64, 16]]
    np.testing.assert_array_equal(scale, np.array([1, 1, 2 / 127], np.float32))


def test_a_format_that_the_config_lacks_is_refused():
    with pytest.raises(ConfigError, match="weights must be in one of int8 for this config, not 'mxint4-b32'"):
        weight_layout(CONFIG, 16, 16, "mxint4-b32")
    with pytest.raises(ConfigError, match="mode must be 0 for plain weights, not 1"):
        engine_runtime(CONFIG).layout(CONFIG, 1, 16, 16)
    assert default_weights(CONFIG) == "int8"


def test_an_engine_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match=r"AcceleratorConfig\.engine must be the name of a registered engine, not 'loom'"):
        engine_runtime(replace(CONFIG, engine="loom"))
    with pytest.raises(ConfigError, match=r"AcceleratorConfig\.engine must be the name of a registered engine, not 'loom'"):
        matrix_model(replace(CONFIG, engine="loom"))


def test_every_engine_has_a_golden_model_and_a_runtime():
    from hw.engines import ENGINES as INFOS

    assert {info.model for info in INFOS.values()} <= ENGINES.keys() & MATRIX_MODELS.keys()
