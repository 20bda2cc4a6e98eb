"""Parameters of boards."""

import re

import pytest

from hw.bridge.config import BoardConfig
from hw.errors import ConfigError


@pytest.mark.parametrize(("fields", "text"), [
    ({"memory_bytes": 2048}, "BoardConfig.memory_bytes must be a power of two between 4096 and 1073741824, not 2048"),
    ({"memory_bytes": 5000}, "BoardConfig.memory_bytes must be a power of two between 4096 and 1073741824, not 5000"),
    ({"clock_hz": 10}, "BoardConfig.clock_hz must be between 1000 and 4294967295, not 10"),
    ({"baud": 0}, "BoardConfig.baud must be between 1 and 6250000 (a quarter of clock_hz), not 0"),
    ({"baud": 6_250_001}, "BoardConfig.baud must be between 1 and 6250000 (a quarter of clock_hz), not 6250001"),
    ({"clock_hz": 1_000_000, "baud": 230_400},
     "BoardConfig.baud must be within 2 % of clock_hz / n (1000000 / 4 is 8.5% off), not 230400"),
    ({"link": "usb"}, "BoardConfig.link must be one of uart, axis, not 'usb'"),
    ({"timeout_cycles": 15}, "BoardConfig.timeout_cycles must be 0, or 16 to 4294967295, not 15"),
])
def test_impossible_parameters_are_refused(fields, text):
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        BoardConfig(**fields)


def test_divisor_and_timeout_follow_from_the_clock():
    board = BoardConfig(clock_hz=12_000_000, baud=115_200)
    assert board.divisor == 104
    assert board.timeout == 1_200_000
    assert BoardConfig(timeout_cycles=99).timeout == 99
