"""Random faults, and the comparison of two engines fault by fault."""

import numpy as np

from flows.fault.records import FAULT, OUTCOME, Kind

STATE_KINDS = (Kind.SEU, Kind.SEU, Kind.MBU, Kind.INTERMITTENT, Kind.STUCK0, Kind.STUCK1)
GATE_KINDS = (Kind.SET, Kind.STUCK0, Kind.STUCK1)


def random_faults(sites, cycles, count, *, seed, places=("ff",), kinds=STATE_KINDS):
    """Return faults anywhere in some kinds of sites, of random kinds, bits and durations."""
    rng = np.random.default_rng(seed)
    among = sites.of_kind(*places)
    faults = np.zeros(count, FAULT)
    faults["site"] = rng.choice(among, count)
    faults["cycle"] = rng.integers(0, cycles, count)
    faults["kind"] = rng.choice(kinds, count)
    faults["duration"] = rng.integers(1, 6, count)
    widths = sites.bits[faults["site"]]
    first = rng.integers(0, widths)
    faults["mask"] = 1 << first
    adjacent = (faults["kind"] == Kind.MBU) & (first + 1 < widths)
    faults["mask"][adjacent] *= 3
    return faults


def every_flip(sites, cycles):
    """Return every flip of a bit of a flip-flop in every cycle."""
    bits = [(site, 1 << bit) for site in sites.of_kind("ff") for bit in range(sites.bits[site])]
    faults = np.zeros((cycles, len(bits)), FAULT)
    faults["site"], faults["mask"] = np.array(bits).T
    faults["cycle"] = np.arange(cycles)[:, None]
    return faults.reshape(-1)


def assert_same(one, other, faults, sites):
    """Compare all of the outcomes but `end`, which says how an engine works, not what happened."""
    for name in OUTCOME.names:
        if name != "end":
            differ = np.flatnonzero(one[name] != other[name])
            assert not len(differ), (f"{len(differ)} of {len(faults)} faults differ in {name}, the first: {faults[differ[0]]} at "
                                     f"{sites.name(int(faults['site'][differ[0]]))}: {one[differ[0]]} and {other[differ[0]]}")
