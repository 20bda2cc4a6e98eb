"""What all number formats share."""

import abc
from dataclasses import dataclass

from hw.errors import ConfigError
from hw.layout import PackedWord

__all__ = ["Format"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format(abc.ABC):
    """What all formats share.

    Attributes
    ----------
    family : str
        First part of the name.
    block : int
        Values of one packed block along the reduction axis; 0: blocks do not exist, a value is stored by itself.
    block_letter : str
        "g" (group) or "b" (block) where the size is part of the name, else empty.
    options : tuple of str
        Options in the name that changed a field.
    doc, source : str
        One line each for tables; where it comes from.
    """

    family: str
    block: int = 0
    block_letter: str = ""
    options: tuple[str, ...] = ()
    doc: str
    source: str

    def __post_init__(self) -> None:
        """Check the block size."""
        if not isinstance(self.block, int) or not 0 <= self.block <= 1 << 16:
            raise ConfigError(f"{type(self).__name__}.block must be an integer between 0 and 65536, not {self.block!r}")

    @property
    def name(self) -> str:
        """Canonical name, which `format_named` reads."""
        size = f"-{self.block_letter}{self.block}" if self.block_letter and self.block else ""
        return "-".join((self.family + size, *self.options))

    @property
    @abc.abstractmethod
    def word(self) -> PackedWord:
        """Fields of one packed block."""

    @property
    def side(self) -> tuple[str, ...]:
        """Names of what is stored beside the blocks, for each row or once for a tensor."""
        return ()

    @property
    def takes_nonfinite(self) -> bool:
        """Whether NaN and infinities are values of the format that a quantizer keeps."""
        return False

    @property
    def bits_per_weight(self) -> float:
        """Bits of a value with its share of the block's metadata; what `side` names is not in it."""
        return self.word.bits / max(1, self.block)

    @property
    def stored_bits_per_weight(self) -> float:
        """The same with the padding of each stored block to whole bytes; values without a block lie next to each other."""
        return 8 * self.word.bytes / self.block if self.block else float(self.word.bits)
