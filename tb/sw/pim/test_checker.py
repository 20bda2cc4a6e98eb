"""The check of command lists: every cause of refusal, composites and refresh, hazards."""

import dataclasses

import numpy as np
import pytest

from hw.pim.isa import PimErrorCause, PimOpcode, PimRegister
from hw.pim.presets import PIM_PRESETS
from sw.pim.assembler import assemble, command
from sw.pim.checker import check
from sw.pim.expand import CommandError

TINY = PIM_PRESETS["pim-tiny"]
HEADER = "setm k_beats, 2\nsetm head_dim, 32\nsetm max_tokens, 2\n"


def test_a_sound_list_is_reported():
    report = check(TINY, assemble(HEADER + "wrx cnt=1\nmac row=3 cnt=31 grp=1 clr last\nrdacc cnt=31\neoc"))
    assert report.commands == 7
    assert report.bursts == 32
    assert report.hazards == ()
    assert report.longest == 32 * 4 + 19 + 8 + 19          # a whole row: 31·4 + 46 and a burst's own interval
    assert report.tck > report.longest


def test_a_header_keeps_rows_open():
    macs = "mac row=1 cnt=7\nmac row=1 col=8 cnt=7\n"
    apart, together = (check(TINY, assemble(f"{HEADER}wrx cnt=7\n{text}eoc")).tck for text in (macs, "header cnt=1\n" + macs))
    assert apart - together == 19 + 8 + 19


@pytest.mark.parametrize(("rows", "allowed"), [(26, True), (27, False)])
def test_a_composite_that_would_break_refresh_is_refused(rows, allowed):
    text = f"{HEADER}wrx cnt=7\nheader cnt={rows - 1}\n" + "".join(f"mac row={row} cnt=31\n" for row in range(rows))
    # Each row takes 174 clocks at most; 5070 − 456 are between two refreshes.
    if allowed:
        assert check(TINY, assemble(text + "eoc")).longest <= 5070 - 456
    else:
        with pytest.raises(CommandError, match=r"^command 31: a composite must end within 4614 clocks, between two refreshes, "
                                               r"not 4698 \(COMPOSITE_TOO_LONG\)$"):
            check(TINY, assemble(text + "eoc"))


def test_what_holds_no_row_may_take_longer_than_a_refresh_interval():
    assert check(TINY, assemble("header cnt=99\n" + "mvs cnt=63\nsfm value=64\n" * 50 + "eoc")).longest > 2000

_KVAP = "HEAD_DIM of KVAP must be 16, what a stream's burst holds, times a power of two up to a row, not "


@pytest.mark.parametrize(("text", "cause", "message"), [
    ("mac mode=2", "ILLEGAL_COMMAND", "mode of MAC must be 0 or 1, not 2"),
    ("mac grp=15 row=64", "ROW_RANGE", "row must be below 64, not 64"),
    ("mac col=1 cnt=31", "COLUMN_RANGE", r"col \+ cnt must be below 32, not 32"),
    ("wrx xidx=7 cnt=1", "XBUF_RANGE", r"entries must be below 8 \(xbuf_entries\), not 8"),
    ("rdacc aidx=63 cnt=1", "OBUF_RANGE", r"entries must be below 64 \(obuf_entries\), not 64"),
    ("sfm value=65", "TOKENS_RANGE", "scores must be between 1 and 64, what the softmax unit holds, not 65"),
    ("sfo value=0", "TOKENS_RANGE", "scores must be between 1 and 64, what the softmax unit holds, not 0"),
    ("mac mode=bcast aidx=15 clr", "OBUF_RANGE", "entries must be below 16, those with all lanes, not 16"),
    ("setm k_beats, 10\nmac mode=bcast cnt=4", "OBUF_RANGE", "entries that BCAST adds up at once must be at most 8, not 10"),
    ("af aidx=15 cnt=1", "OBUF_RANGE", "entries must be below 16, those with all lanes, not 16"),
    ("af clr mode=3 aidx=1 cnt=31", "OBUF_RANGE", r"entries must be below 64 \(obuf_entries\), not 64"),
    ("sfo aidx=4 value=1", "HEAD_RANGE", "head must be below 4, not 4"),
    ("mrg aidx=1 xidx=9", "HEAD_RANGE", "head must be below 4, not 9"),
    ("setm group, 3", "HEAD_RANGE", "GROUP must be between 1 and 2, not 3"),
    ("setm k_beats, 513", "HEAD_RANGE", "K_BEATS must be between 1 and 512, not 513"),
    ("setm operands, 1", "HEAD_RANGE", "OPERANDS must be between 0 and 0, not 1"),
    ("setm max_tokens, 600000", "TOKENS_RANGE", "MAX_TOKENS must be between 0 and 524288, not 600000"),
    ("setm head_dim, 65", "HEAD_RANGE", "HEAD_DIM must be between 1 and 64, not 65"),
    ("af mode=3 cnt=0\naf mode=0 xidx=8", "XBUF_RANGE", r"entries must be below 8 \(xbuf_entries\), not 8"),
    ("kvap\nkvap clr\nkvap\nkvap clr\nkvap", "TOKENS_RANGE", "tokens of head 0 must be at most 2, not 3"),
    ("seth tokens, 1, 2\nkvap aidx=1", "TOKENS_RANGE", "tokens of head 1 must be at most 2, not 3"),
    ("mvs xidx=1\nsfo aidx=1 value=2", "TOKENS_RANGE", "scores must be the 1 of head 1 that wait, not 2 of head 1"),
    ("mvs xidx=1\nsfo aidx=2 value=1", "TOKENS_RANGE", "scores must be the 1 of head 1 that wait, not 1 of head 2"),
    ("mvs xidx=1\nseth output, 1, 0\nsfo aidx=1 value=1", "TOKENS_RANGE",
     "scores must be the 0 of head 1 that wait, not 1 of head 1"),
    ("sfm value=3", "TOKENS_RANGE", "scores must be the 0 of head 0 that wait, not 3 of head 0"),
    ("mvs xidx=1\nmvs xidx=2", "TOKENS_RANGE", "scores must be of head 1, whose others wait, not 2"),
    ("mvs xidx=1 cnt=62\nmvs xidx=1 cnt=1", "TOKENS_RANGE", "scores that wait must be at most 64, not 65"),
    ("setm k_beats, 3\nmac mode=bcast cnt=1", "ILLEGAL_COMMAND", "beats of BCAST must be a multiple of K_BEATS, 3, not 4"),
    ("setm k_beats, 8\nmac mode=bcast", "ILLEGAL_COMMAND", "beats of BCAST must be a multiple of K_BEATS, 8, not 2"),
    ("setm k_beats, 6\nmac cnt=2 aidx=63", "OBUF_RANGE",
     "entries must be below 64, with room for 2 periods as K_BEATS is no power of two, not 64"),
    ("setm k_beats, 6\nmac mode=bcast cnt=29 xidx=115", "XBUF_RANGE",
     "entries must be below 8, with room for 15 periods as K_BEATS is no power of two, not 8"),
    ("setm head_dim, 24\nkvap", "HEAD_RANGE", _KVAP + "24"),
    ("setm head_dim, 48\nkvap", "HEAD_RANGE", _KVAP + "48"),
    ("seth k_row, 0, 64\nkvap", "ROW_RANGE", "row of a token must be below 64, not 64"),
    ("setm max_tokens, 1000\nseth tokens, 0, 512\nseth v_row, 0, 63\nkvap\nkvap clr", "ROW_RANGE",
     "row of a token must be below 64, not 64"),
])
def test_every_cause_is_found(text, cause, message):
    with pytest.raises(CommandError, match=rf"^command \d+: {message} \({cause}\)$") as caught:
        check(TINY, assemble(f"{HEADER}{text}\neoc"))
    assert caught.value.cause is PimErrorCause[cause]


@pytest.mark.parametrize(("text", "message"), [
    ("mac", "K_BEATS of MAC must be between 1 and 512, not 0"),
    ("sfo value=1", "HEAD_DIM of SFO must be between 1 and 64, not 0"),
    ("mrg", "HEAD_DIM of MRG must be between 1 and 64, not 0"), ("setm max_tokens, 9\nkvap", _KVAP + "0"),
])
def test_what_is_not_set_is_not_guessed(text, message):
    with pytest.raises(CommandError, match=rf"^command \d+: {message} \(HEAD_RANGE\)$"):
        check(TINY, assemble(f"wrx\n{text}\neoc"))


def test_a_token_that_is_a_part_of_a_stream_is_refused():
    config = dataclasses.replace(TINY, streams=1, lanes=8, xbuf_entries=16)            # two slices of 8 elements to a stream
    check(config, assemble(HEADER.replace("32", "16") + "wrx cnt=1\nkvap\neoc"))
    with pytest.raises(CommandError, match=rf"^command 4: {_KVAP}8 \(HEAD_RANGE\)$"):
        check(config, assemble(HEADER.replace("32", "8") + "wrx cnt=1\nkvap\neoc"))


@pytest.mark.parametrize(("text", "needed"), [
    ("sfo value=1", "a softmax unit"), ("kvap", "elements of X as wide as weights"),
    ("ewmul", "operands of plain floats and float32 sums"), ("af", "an activation unit, for float32 sums and X of floats"),
])
def test_commands_without_a_unit_are_refused_before_anything_runs(text, needed):
    config = PIM_PRESETS["pim-p3"]                  # integers: 4-bit weights, E4M3 activations, int32 sums
    opcode = text.split()[0].upper()
    with pytest.raises(CommandError, match=rf"^command 1: opcode must be one that this die has the unit for, not {opcode}, "
                                           rf"which takes {needed} \(UNSUPPORTED\)$") as caught:
        check(config, assemble(f"wrx\n{text}\neoc"))
    assert caught.value.cause is PimErrorCause.UNSUPPORTED


@pytest.mark.parametrize(("text", "cause", "message"), [
    ("mac", "ROW_STATE", "row 0 of set 0 must be opened by ACT before MAC"),
    ("act row=1\nmac row=2", "ROW_STATE", "row 2 of set 0 must be opened by ACT before MAC"),
    ("act grp=1 row=1\nact grp=1 row=1", "ROW_STATE", "set 1 must be closed before row 1 is opened, not open with row 1"),
    ("act grp=1 row=1\nref grp=2", "ROW_STATE", "set 1 must be closed before it is refreshed, not open with row 1"),
    ("act\nkvap clr\nkvap clr\nseth tokens, 0, 1\nseth v_row, 0, 3\nkvap clr", "ROW_STATE",
     "row 3 of set 0 must be opened by ACT before KVAP"),
    ("mode cnt=2", "ILLEGAL_COMMAND", "MODE must be 0 or 1, not 2"),
    ("act grp=8\nref\n" + "mac grp=8 cnt=31\n" * 36, "COMPOSITE_TOO_LONG",
     "sets 8 to 15 must be refreshed by REF every 4614 clocks in MODE 1, not after 4703"),
])
def test_rows_are_followed_in_mode_1(text, cause, message):
    prefix = f"{HEADER}wrx cnt=7\nmode cnt=1\n"
    with pytest.raises(CommandError, match=rf"^command \d+: {message} \({cause}\)$"):
        check(TINY, assemble(f"{prefix}{text}\neoc"))
    check(TINY, assemble(f"{prefix}mode\n{text.replace('cnt=2', '')}\neoc"))


def test_sets_of_banks_are_known():
    duplex = PIM_PRESETS["pim-duplex"]
    check(duplex, assemble("wrx\newmul grp=3\neoc"))
    with pytest.raises(CommandError, match=r"^command 1: grp must be below 4, not 4 \(GROUP_RANGE\)$"):
        check(duplex, assemble("wrx\newmul grp=4\neoc"))
    buffer = dataclasses.replace(PIM_PRESETS["pim-attacc-buffer"], interval=4, pim_per_burst=2, dram_rows=100)
    check(buffer, assemble("wrx\newmul grp=15 row=199\neoc"))                # 32 sets: 16 more above row 100
    with pytest.raises(CommandError, match=r"^command 1: row must be below 200, not 200 \(ROW_RANGE\)$"):
        check(buffer, assemble("wrx\newmul grp=15 row=200\neoc"))


def test_a_list_that_runs_too_long_is_refused():
    words = assemble("setm r7, 1000\nloop r7 + 1, 1\nnop\neoc")
    assert check(TINY, words, most=1003).commands == 1003
    with pytest.raises(CommandError, match=r"^command 3: a list must issue at most 1002 commands \(LOOP_RANGE\)$"):
        check(TINY, words, most=1002)


@pytest.mark.parametrize(("text", "hazards"), [
    ("mac xidx=3 clr last", ["slice 3 of the X buffer is read, but nothing was written",
                             "slice 4 of the X buffer is read, but nothing was written"]),
    ("rdacc aidx=2", ["entry 2 of the output buffer is read, but nothing was written"]),
    ("wrx cnt=1\nmac clr\nrdacc", ["entry 0 of the output buffer is read while its accumulation is open"]),
    ("wrx cnt=1\nmac clr\nmac last\nrdacc", []),
    ("mvx aidx=1", ["softmax of head 1 is read, but nothing was written"]),
    ("wrx cnt=1\nmac clr last\nmvs xidx=1\nsfo aidx=1 value=1\nmvx aidx=1", []),
    ("setm head_dim, 32\nwracc cnt=3\nseth output, 2, 1\nmrg aidx=1 xidx=2", ["outputs of heads 1 and 2 share entries"]),
    ("setm head_dim, 32\nwracc cnt=3\nseth output, 2, 2\nmrg aidx=1 xidx=2", []),
])
def test_hazards_are_named(text, hazards):
    report = check(TINY, assemble(f"setm k_beats, 2\nsetm head_dim, 16\n{text}\neoc"))
    assert [said for _, said in report.hazards] == hazards


def test_random_words_are_run_or_refused():
    rng = np.random.default_rng(3)
    causes, period = set(), command(PimOpcode.SETM, aidx=PimRegister.K_BEATS, value=2)
    for _ in range(300):
        words = [int(word) for word in rng.integers(0, 1 << 64, 6, dtype=np.uint64) & np.uint64(0x3FFF_FFFF_FFFF_FFFF)]
        words[::2] = [command(PimOpcode.MAC, **{name: int(rng.integers(0, 1 << width)) for name, width in (
            ("grp", 4), ("row", 7), ("col", 6), ("cnt", 7), ("xidx", 3), ("aidx", 6), ("mode", 2))}) for _ in words[::2]]
        try:
            check(TINY, [period, *words[:int(rng.integers(1, 6))], command(PimOpcode.EOC)])
        except CommandError as error:
            causes.add(error.cause)
    assert len(causes) >= 4
