"""Processing elements: the registry, and the specification by which arrays build them."""

from dataclasses import dataclass

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.pe.base import PE
from hw.pe.mac import MacPE
from hw.plugins import Registry

__all__ = ["PE_TYPES", "PESpec"]

PE_TYPES: Registry[type[PE]] = Registry("pes", {
    "mac": MacPE,
})
"""Name of each PE, as `AcceleratorConfig.pe` gives it → its class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PESpec:
    """Everything that decides one PE: kind (a key of `PE_TYPES`) and the constructor arguments of `PE`.

    Raises
    ------
    ConfigError
        If there is no such kind.
    """

    kind: str
    activation_width: int
    weight_width: int
    psum_width: int
    dataflows: tuple[str, ...]

    def __post_init__(self) -> None:
        """Look the kind up."""
        if self.kind not in PE_TYPES:
            raise ConfigError(f"PESpec.kind must be one of {', '.join(PE_TYPES)}, not {self.kind!r}")

    @classmethod
    def of(cls, config: AcceleratorConfig) -> "PESpec":
        """Return the PE that `config` asks for."""
        return cls(kind=config.pe, activation_width=config.activation.bits, weight_width=config.weight.bits,
                   psum_width=config.psum_width, dataflows=config.dataflows)

    @property
    def suffix(self) -> str:
        """Parameters in a form that fits into a module name."""
        return f"{self.kind}_a{self.activation_width}_w{self.weight_width}_p{self.psum_width}_{''.join(self.dataflows)}"

    @property
    def module_name(self) -> str:
        """Verilog module name of the PE."""
        return f"pe_{self.suffix}"

    def create(self) -> PE:
        """Return a new PE."""
        return PE_TYPES[self.kind](activation_width=self.activation_width, weight_width=self.weight_width,
                                   psum_width=self.psum_width, dataflows=self.dataflows)
