"""Rows of `heddle reproduce sparseloop`: they hold, those of the published masks read them as they are."""

import re

import numpy as np
import pytest

from flows.reproduce import Options
from flows.reproduce import sparseloop as module
from flows.reproduce.sparseloop import rows


def test_what_must_be_met_is():
    found = list(rows(Options()))
    assert not [row.quantity for row in found if not row.holds]
    assert sum(row.target is not None for row in found) == 3 + 3 + 10 + 10 + 8
    masks = [row for row in found if row.ours is None]
    assert [row.paper for row in masks] == [1702140, 1499682, 1144158, 1457458, 1677684, 1821557, 948572, 775316]
    assert all("--data DIR" in row.note for row in masks)


def test_masks_that_somebody_has(tmp_path, monkeypatch):
    """Four weights × two pixels of three channels; counted by hand: channels have 2·1, 1·2 and 0·2 pairs."""
    monkeypatch.setattr(module, "_LAYERS", {"L99": (3, 4, 2, 0.25, 0.5, 4, 1.0)})
    (tmp_path / "L99_weights.txt").write_text("110000100000\n")
    (tmp_path / "L99_iacts.txt").write_text("111011")
    *_, row = rows(Options(data=tmp_path))
    assert (row.ours, row.paper, row.target, row.holds) == (4, 4, 4, True)
    (tmp_path / "L99_iacts.txt").write_text("111111")
    *_, row = rows(Options(data=tmp_path))
    assert (row.ours, row.holds) == (6, False)


@pytest.mark.parametrize(("content", "text"), [
    (None, r"--data must be a folder with L07_weights\.txt: .*"),
    ("01" * 5, r"L07_weights\.txt must be 4096 characters 0 and 1, not 10 of 0, 1"),
    ("02" * 2048, r"L07_weights\.txt must be 4096 characters 0 and 1, not 4096 of 0, 2"),
])
def test_masks_that_are_none(tmp_path, content, text):
    if content is not None:
        (tmp_path / "L07_weights.txt").write_text(content)
    with pytest.raises(ValueError, match=f"^{text}$"):
        list(rows(Options(data=tmp_path)))


def test_relative_figures_are_of_the_published_cycles():
    found = {row.quantity: row for row in rows(Options())}
    assert found["DSTC 0.5 × 1: cycles / dense"].paper == pytest.approx(2690 / 4600)
    worst = max(abs(row.ours / row.paper - 1) for name, row in found.items() if re.match("DSTC", name))
    assert 0.05 < worst < 0.12
    assert np.isclose(found["L07: independent zeros / real cycles"].ours, 64 * 64 * 1024 * .520 * .728 / 1702140)
