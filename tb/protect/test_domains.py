"""Protection in a config: rules are checked, kept in JSON, and the last that fits counts."""

import dataclasses
import json

import pytest

from flows.cli import main
from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.presets import PRESETS
from hw.protect.domains import BLOCK_DOMAINS, BLOCKS, MECHANISMS, check_matched, mechanism_of

RULES = (("*", "tmr"), ("controller.*", "parity"), ("scratchpad", "secded"), ("*.debug", "none"))


def test_the_last_rule_that_fits_counts() -> None:
    known = ("parity", "dmr", "tmr")
    assert mechanism_of(RULES, "engine.mesh.row_0.pe_1.acc", known) == "tmr"
    assert mechanism_of(RULES, "controller.fetch.pc", known) == "parity"
    assert mechanism_of(RULES, "controller.debug", known) == "none"
    assert mechanism_of(RULES, "scratchpad", known) == "tmr", "secded is nothing for a register"
    assert mechanism_of((), "scratchpad", known) == "none"


def test_a_block_asks_for_its_mechanism() -> None:
    config = AcceleratorConfig(protection=RULES)
    assert config.protection_of("scratchpad") == "secded"
    assert config.protection_of("accumulator") == "none", "tmr is nothing for a memory"
    assert dataclasses.replace(config, protection=()).protection_of("scratchpad") == "none"


def test_rules_survive_json_and_name_the_config() -> None:
    config = AcceleratorConfig(protection=RULES)
    assert AcceleratorConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["protection"][1] == ["controller.*", "parity"]
    assert config.digest() != AcceleratorConfig().digest()
    assert config.digest() != AcceleratorConfig(protection=RULES[::-1]).digest()


def test_without_protection_a_config_keeps_its_name() -> None:
    """The digest of a config of before there was protection, as docs/presets.md gave it."""
    assert PRESETS["systolic-4x4"].digest() == "ccc4dc16398c"


@pytest.mark.parametrize("rules", [(("*", "ecc"),), (("*",),), ("*:tmr",), (("", "tmr"),), ((1, "tmr"),), "*:tmr", 7])
def test_other_rules_are_refused(rules: object) -> None:
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig\.protection must be pairs of a glob on domains and one of none, "
                                          r"parity, dmr, tmr, lockstep, .*, not .*$"):
        AcceleratorConfig(protection=rules)     # type: ignore[arg-type]


def test_a_rule_must_match_something() -> None:
    registers, blocks = ("load.pc", "load.addr"), ("load", "store")
    check_matched((("load.p*", "tmr"), ("st*", "lockstep"), ("scratch*", "secded"), ("store", "none")), registers, blocks)
    for rule, text in ((("load.pcc", "dmr"), r"have dmr, not 'load\.pcc'; near: load\.pc, load\.addr"),
                       (("load.pc", "lockstep"), r"have lockstep, not 'load\.pc'; near: load"),
                       (("accumulators", "secded"), r"have secded, not 'accumulators'; near: accumulator"),
                       (("q", "tmr"), r"have tmr, not 'q'; for instance: load\.addr, load\.pc")):
        with pytest.raises(ConfigError, match=rf"^AcceleratorConfig\.protection must name domains that can {text}$"):
            check_matched((rule,), registers, blocks)


@pytest.mark.parametrize("engine", sorted({config.engine for config in PRESETS.values()}))
def test_only_an_array_that_can_check_itself_is_asked_to(engine: str) -> None:
    config = next(config for config in PRESETS.values() if config.engine == engine)
    if engine == "systolic":
        assert dataclasses.replace(config, protection=(("engine.mesh", "abft"),)).protection_of("engine.mesh") == "abft"
        return
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig\.protection must ask 'none' of engine\.mesh for .*, not 'abft'$"):
        dataclasses.replace(config, protection=(("engine.mesh", "abft"),))


def test_the_command_line_takes_rules(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "systolic-4x4", "--device", "golden", "--gemm", "4,4,4", "--json"]
    assert main([*arguments, "--set", "protection=*:tmr,scratchpad:secded"]) == 0
    rules = (("*", "tmr"), ("scratchpad", "secded"))
    assert json.loads(capsys.readouterr().out)["config"] == AcceleratorConfig(protection=rules).digest()
    assert main([*arguments, "--set", "protection=tmr"]) == 2
    assert "AcceleratorConfig.protection must be pairs of a glob" in capsys.readouterr().err


def test_the_table_of_domains() -> None:
    assert {mechanism for known in BLOCK_DOMAINS.values() for mechanism in known} <= set(MECHANISMS)
    assert len(set(BLOCKS)) == len(BLOCKS) == 8
