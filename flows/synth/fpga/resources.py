"""What a synthesized netlist needs of an FPGA, and whether it fits."""

from collections.abc import Iterable, Mapping

from flows.synth.fpga.parts import RESOURCES, Part

__all__ = ["DoesNotFit", "check_fit", "resources_of", "too_much"]

# Cell → LUTs, flip-flops, DSPs and block RAMs that it takes. Multiplexers of LUT outputs are free beside their LUTs.
_LUT, _FF, _DSP, _BRAM = ({kind: 1} for kind in RESOURCES)
_CELLS: dict[str, dict[str, Mapping[str, float]]] = {
    "ecp5": {
        "LUT4": _LUT, "CCU2C": {"luts": 2}, "TRELLIS_DPR16X4": {"luts": 6}, "TRELLIS_FF": _FF, "MULT18X18D": _DSP,
        "DP16KD": _BRAM, "PDPW16KD": _BRAM,
    },
    "ice40": {"SB_LUT4": _LUT, "SB_MAC16": _DSP, "SB_RAM40_4K": _BRAM},
    "gowin": {
        "LUT1": _LUT, "LUT2": _LUT, "LUT3": _LUT, "LUT4": _LUT, "ALU": _LUT, "RAM16SDP1": {"luts": 1}, "RAM16SDP2": {"luts": 2},
        "RAM16SDP4": {"luts": 4}, "MULT9X9": {"dsps": 0.5}, "MULT18X18": _DSP, "MULT36X36": {"dsps": 4},
        "SDPB": _BRAM, "SDPX9B": _BRAM, "DPB": _BRAM, "DPX9B": _BRAM, "SP": _BRAM, "SPX9": _BRAM, "pROM": _BRAM, "pROMX9": _BRAM,
    },
}
_FLIP_FLOPS = {"ecp5": (), "ice40": ("SB_DFF",), "gowin": ("DFF",)}
_BLOCK_RAMS = {"ecp5": (), "ice40": ("SB_RAM40_4K",), "gowin": ()}


class DoesNotFit(ValueError):
    """The design needs more than the part has; the text says of what, and by how much."""


def resources_of(target: str, cells: Mapping[str, int]) -> dict[str, int]:
    """Return how many of each of `RESOURCES` cells take.

    Parameters
    ----------
    target : str
    cells : mapping of str to int
        Cell type → number, as Yosys counts them after synthesis.
    """
    needs = dict.fromkeys(RESOURCES, 0.0)
    for cell, count in cells.items():
        takes = _CELLS[target].get(cell, {})
        if cell.startswith(_FLIP_FLOPS[target]):
            takes = _FF
        elif cell.startswith(_BLOCK_RAMS[target]):
            takes = _BRAM
        for resource, each in takes.items():
            needs[resource] += each * count
    return {resource: -(-int(2 * count) // 2) for resource, count in needs.items()}


def check_fit(part: Part, needs: Mapping[str, int], what: str) -> None:
    """Refuse a design that cannot fit.

    Raises
    ------
    DoesNotFit
        If it needs too much of anything.
    """
    if short := too_much((name, needs[name], getattr(part, name)) for name in RESOURCES):
        raise DoesNotFit(f"{what} does not fit {part.name}: it needs {short}")


def too_much(shares: Iterable[tuple[str, int, int]]) -> str:
    """Return of (name, needed, there) those of which too much is needed, in words; "" if it is none."""
    return ", ".join(f"{needed} of {there} {name} ({needed - there} too many)"
                     for name, needed, there in shares if needed > there)
