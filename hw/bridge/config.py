"""What a board adds to an accelerator: memory, clock and link, as data."""

from dataclasses import dataclass

from hw.errors import ConfigError

__all__ = ["LINKS", "BoardConfig"]

LINKS = ("uart", "axis")


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardConfig:
    """Parameters of a `hw.bridge.board.Board`.

    Parameters
    ----------
    memory_bytes : int
        On-chip memory that stands for DRAM; a power of two, 4 KiB to 1 GiB.
    clock_hz : int
        Clock of everything on the board.
    baud : int
        Bits per second on the UART, at most a quarter of `clock_hz`; its divisor is rounded.
    link : str
        "uart" (8N1) or "axis" (AXI4-Stream of bytes, one each way).
    timeout_cycles : int
        Silence after which half a request is forgotten; 0: a tenth of a second.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """

    memory_bytes: int = 64 * 1024
    clock_hz: int = 25_000_000
    baud: int = 1_000_000
    link: str = "uart"
    timeout_cycles: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        legal_memory = 4096 <= self.memory_bytes <= 1 << 30 and not self.memory_bytes & (self.memory_bytes - 1)
        self._must("memory_bytes", legal_memory, "a power of two between 4096 and 1073741824")
        self._must("clock_hz", 1000 <= self.clock_hz < 1 << 32, "between 1000 and 4294967295")
        self._must("baud", 1 <= self.baud <= self.clock_hz // 4, f"between 1 and {self.clock_hz // 4} (a quarter of clock_hz)")
        self._must("link", self.link in LINKS, f"one of {', '.join(LINKS)}")
        self._must("timeout_cycles", self.timeout_cycles == 0 or 16 <= self.timeout_cycles < 1 << 32, "0, or 16 to 4294967295")
        error = abs(self.clock_hz / self.divisor / self.baud - 1)
        self._must("baud", error <= 0.02, f"within 2 % of clock_hz / n ({self.clock_hz} / {self.divisor} is {error:.1%} off)")

    def _must(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError(f"BoardConfig.{name} must be {rule}, not {getattr(self, name)!r}")

    @property
    def divisor(self) -> int:
        """Clock cycles of a bit on the UART."""
        return round(self.clock_hz / self.baud)

    @property
    def timeout(self) -> int:
        """Cycles of silence after which half a request is forgotten."""
        return self.timeout_cycles or max(16, self.clock_hz // 10)
