"""What a comparison with a paper may be asked to do beyond what is quick."""

from dataclasses import dataclass, fields
from pathlib import Path

__all__ = ["Options"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Long parts, and what they need; None or false: left out, which the rows' notes say.

    Attributes
    ----------
    model : Path or None
        Folder of a Llama checkpoint, for what a format costs a model.
    windows : int or None
        So many windows of held-out text for that; None: 50.
    rtl : bool
        Simulate the generated Verilog for cycles that are otherwise those of the formulas.
    liberty : str or None
        Cell library to synthesize into, or `generic` for NAND2 equivalents, for areas.
    data : Path or None
        Folder of data that the paper's authors have published and that are not ours to pass on.
    """

    model: Path | None = None
    windows: int | None = None
    rtl: bool = False
    liberty: str | None = None
    data: Path | None = None

    @property
    def given(self) -> list[str]:
        """Names of what was asked for."""
        return [field.name for field in fields(self) if getattr(self, field.name) not in (None, False)]
