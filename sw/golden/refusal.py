"""How a unit of the golden device stops at a command."""

from hw.isa import ErrorCause

__all__ = ["Refusal"]


class Refusal(Exception):
    """A command broke a rule; what it did before the first violation stays done.

    Attributes
    ----------
    cause : ErrorCause
    addr : int
        Address, row, size or value at fault.
    """

    def __init__(self, cause: ErrorCause, addr: int):
        super().__init__(f"{cause.name.lower()} at {addr:#x}")
        self.cause, self.addr = cause, addr
