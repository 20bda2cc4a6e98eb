"""The FPGAs that can be asked for: what they hold, and the pins of one common board of each."""

from dataclasses import dataclass

__all__ = ["DEFAULT_PARTS", "PARTS", "RESOURCES", "Part", "part_named"]

RESOURCES = ("luts", "ffs", "dsps", "brams")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A device in a package, at a speed grade, on a board.

    Attributes
    ----------
    name : str
    target : str
        "ecp5", "ice40" or "gowin".
    synthesis, route, pack : tuple of str
        Options of Yosys' synth_<target>, of nextpnr and of the program that writes the bitstream.
    luts, ffs, dsps, brams : int
        What it holds: 4-input LUTs, flip-flops, multipliers of 18×18 (iCE40: 16×16), block RAMs.
    board : str
        Board of the pins below. None of them has been tried.
    clock_hz : int
        Oscillator of the board.
    clk, rx, tx, irq : str
        Pins: oscillator, serial line to and from the FPGA, a light.
    """

    name: str
    target: str
    synthesis: tuple[str, ...] = ()
    route: tuple[str, ...]
    pack: tuple[str, ...] = ()
    luts: int
    ffs: int
    dsps: int
    brams: int
    board: str
    clock_hz: int
    clk: str
    rx: str
    tx: str
    irq: str

    @property
    def pins(self) -> dict[str, str]:
        """Port → pin."""
        return {port: getattr(self, port) for port in ("clk", "rx", "tx", "irq")}


def _ecp5(size: str, grade: int, luts: int, dsps: int, brams: int) -> Part:
    return Part(name=f"lfe5u-{size}f-{grade}bg381c", target="ecp5", luts=luts, ffs=luts, dsps=dsps, brams=brams,
                route=(f"--{size}k", "--package", "CABGA381", "--speed", str(grade)), board=f"ULX3S {size}F",
                clock_hz=25_000_000, clk="G2", rx="M1", tx="L4", irq="B2")


_ALL = (
    *(_ecp5(size, grade, *holds) for size, holds in (("25", (24288, 28, 56)), ("45", (43848, 72, 108)), ("85", (83640, 156, 208)))
      for grade in (6, 7, 8)),
    Part(name="ice40hx8k-ct256", target="ice40", synthesis=("-device", "hx"), route=("--hx8k", "--package", "ct256"),
         luts=7680, ffs=7680, dsps=0, brams=32, board="iCE40-HX8K breakout", clock_hz=12_000_000,
         clk="J3", rx="B10", tx="B12", irq="B5"),
    Part(name="ice40up5k-sg48", target="ice40", synthesis=("-device", "u", "-dsp"), route=("--up5k", "--package", "sg48"),
         luts=5280, ffs=5280, dsps=8, brams=30, board="iCEBreaker", clock_hz=12_000_000, clk="35", rx="6", tx="9", irq="11"),
    Part(name="gw2ar-lv18qn88c8/i7", target="gowin", synthesis=("-family", "gw2a"),
         route=("--device", "GW2AR-LV18QN88C8/I7", "--vopt", "family=GW2A-18C"), pack=("-d", "GW2A-18C"),
         luts=20736, ffs=15552, dsps=48, brams=46, board="Tang Nano 20K", clock_hz=27_000_000,
         clk="4", rx="70", tx="69", irq="15"),
    Part(name="gw1nr-lv9qn88pc6/i5", target="gowin", synthesis=("-family", "gw1n"),
         route=("--device", "GW1NR-LV9QN88PC6/I5", "--vopt", "family=GW1N-9C"), pack=("-d", "GW1N-9C"),
         luts=8640, ffs=6480, dsps=20, brams=26, board="Tang Nano 9K", clock_hz=27_000_000, clk="52", rx="18", tx="17", irq="10"),
)

PARTS: dict[str, Part] = {part.name: part for part in _ALL}
DEFAULT_PARTS = {"ecp5": "lfe5u-85f-6bg381c", "ice40": "ice40hx8k-ct256", "gowin": "gw2ar-lv18qn88c8/i7"}


def part_named(target: str, name: str | None) -> Part:
    """Return a part of `target`, its default one if `name` is None; case does not matter.

    Raises
    ------
    ValueError
        If the target has no such part; the text lists those that it has.
    """
    part = PARTS.get((name or DEFAULT_PARTS[target]).lower())
    if part is None or part.target != target:
        known = ", ".join(part.name for part in PARTS.values() if part.target == target)
        raise ValueError(f"--part must be one of {known} with --target {target}, not {name!r}")
    return part
