# amaranth: UnusedElaboratable=no
"""The host that plays a script: registers written and read in order, the interrupt awaited, what it finds told."""

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect

from hw.bridge.script_host import ScriptHost, Step
from hw.control.csr import CsrBank
from hw.isa import Field
from hw.regs import Register
from tb.sim import simulate

FIELDS = (Field(name="value", width=32, doc="value"),)
TABLE = tuple(Register(name=name, offset=offset, access=access, fields=FIELDS) for name, offset, access in (
    ("SETTING", 0, "RW"), ("OTHER", 4, "RW"), ("ERRORS", 8, "R"), ("FIXED", 12, "R")))


def play(script, *, irq_after=0, errors=0, fixed=0, deadline=400):
    """Play steps of (step, addr, value); return (SETTING, OTHER, detected, corrected, cycle in which it was done)."""
    m = Module()
    m.submodules.host = host = ScriptHost(script)
    m.submodules.bank = bank = CsrBank(TABLE)
    connect(m, host=host.registers, bank=bank.bus)
    found = []

    async def bench(ctx):
        ctx.set(bank.errors.value, errors)
        ctx.set(bank.fixed.value, fixed)
        for cycle in range(deadline):
            ctx.set(host.irq, cycle >= irq_after)
            await ctx.tick()
            if ctx.get(host.done):
                found.extend(int(ctx.get(signal)) for signal in (
                    bank.setting.value, bank.other.value, host.detected, host.corrected))
                found.append(cycle)
                return
        raise TimeoutError

    simulate(m, bench)
    return tuple(found)


def test_an_empty_script_ends_at_once():
    *rest, cycle = play([])
    assert rest == [0, 0, 0, 0]
    assert cycle < 3


def test_registers_are_written_in_order():
    *rest, _ = play([(Step.WRITE, 0, 7), (Step.WRITE, 4, 0xFFFF_FFFF), (Step.WRITE, 0, 9)])
    assert rest == [9, 0xFFFF_FFFF, 0, 0]


@pytest.mark.parametrize("irq_after", [0, 30, 200])
def test_it_waits_for_the_interrupt(irq_after):
    *rest, cycle = play([(Step.WRITE, 0, 1), (Step.WAIT, 0, 0), (Step.WRITE, 4, 2)], irq_after=irq_after)
    assert rest == [1, 2, 0, 0]
    assert cycle > irq_after


@pytest.mark.parametrize(("errors", "fixed", "expected"), [
    (0, 0, (0, 0)), (4, 0, (1, 0)), (3, 0, (0, 0)), (0, 2, (0, 1)), (4, 2, (1, 1))])
def test_it_reads_what_was_detected_and_what_was_corrected(errors, fixed, expected):
    found = play([(Step.EXPECT_NO_ERROR, 8, 4), (Step.COUNT_CORRECTED, 12, 2)], errors=errors, fixed=fixed)
    assert found[2:4] == expected


@pytest.mark.parametrize("script", [[(Step.WRITE, 8, 1)], [(Step.EXPECT_NO_ERROR, 64, 0)], [(Step.COUNT_CORRECTED, 64, 0)]])
def test_an_error_answer_counts_as_detected(script):
    assert play(script)[2:4] == (1, 0)
