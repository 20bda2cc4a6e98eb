"""What a campaign injects into: the chosen sites as arrays, with the names under which their results are added up."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.fault.netlist.sites import KINDS, STRATA, Sites

__all__ = ["Words", "group_of", "words_of"]


def group_of(path: str) -> str:
    """Return the register group of a path: what differs in instance numbers only is one group, and its name is a glob."""
    return re.sub(r"_\d+(?=[._]|$)", "_*", path)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Chosen sites, one row each: a word of at most 32 bits.

    Attributes
    ----------
    sites : (W,) uint32
        Index in the target's sites.
    widths, lows : (W,) int
        Bits of the word, and the place of its lowest bit in the register.
    paths : sequence of str
        Register or memory that the word is part of.
    units, groups, classes : (W,) int
        Index into the names below.
    unit_names, group_names, class_names : sequence of str
        Blocks; registers (see `group_of`) and memories; control, config, data, memory.
    memory : (W,) bool
        Whether it is a word of a memory.
    addresses : (W,) int
        Address in its memory; 0 for others.
    """

    sites: npt.NDArray[np.uint32]
    widths: npt.NDArray[np.int64]
    lows: npt.NDArray[np.int64]
    paths: Sequence[str]
    units: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    unit_names: Sequence[str]
    group_names: Sequence[str]
    class_names: Sequence[str]
    memory: npt.NDArray[np.bool_]
    addresses: npt.NDArray[np.int64]

    @staticmethod
    def of(*, sites: npt.ArrayLike, widths: npt.ArrayLike, lows: npt.ArrayLike, paths: Sequence[str], units: Sequence[str],
           classes: Sequence[str], memory: npt.ArrayLike | None = None, addresses: npt.ArrayLike | None = None) -> "Words":
        """Return the rows with their names as numbers."""
        count = len(paths)
        unit_names, unit = np.unique(np.asarray(units, dtype=str), return_inverse=True)
        class_names, klass = np.unique(np.asarray(classes, dtype=str), return_inverse=True)
        known: dict[str, str] = {}
        for path in paths:
            if path not in known:
                known[path] = group_of(path)
        group_names, group = np.unique(np.asarray([known[path] for path in paths], dtype=str), return_inverse=True)
        return Words(
            sites=np.asarray(sites, np.uint32), widths=np.asarray(widths, np.int64), lows=np.asarray(lows, np.int64),
            paths=list(paths), units=unit, groups=group, classes=klass, unit_names=unit_names.tolist(),
            group_names=group_names.tolist(), class_names=class_names.tolist(),
            memory=np.zeros(count, bool) if memory is None else np.asarray(memory, bool),
            addresses=np.zeros(count, np.int64) if addresses is None else np.asarray(addresses, np.int64))

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return int(self.widths.sum())

    def rows_of(self, sites: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Return the row of each site; all must be chosen ones."""
        order = np.argsort(self.sites)
        return order[np.searchsorted(self.sites, sites, sorter=order)]


def words_of(sites: Sites, chosen: npt.NDArray[np.int64]) -> Words:
    """Return some sites of a target as words."""
    rows = sites.table[chosen]
    paths = [sites.registers[register].path for register in rows["register"]]
    return Words.of(sites=chosen, widths=rows["width"], lows=rows["low"], paths=paths,
                    units=[sites.units[unit] for unit in rows["unit"]], classes=[STRATA[stratum] for stratum in rows["stratum"]],
                    memory=rows["kind"] == KINDS.index("memory"), addresses=rows["address"])
