"""How a unit of the golden device stops at a command."""

from hw.isa import ErrorCause

__all__ = ["Refusal", "Starved", "check_aligned", "check_inside"]


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


class Starved(Exception):
    """A command waits for what no command before it provides."""


def check_aligned(value: int, step: int) -> None:
    """Refuse a value that is no multiple of `step`."""
    if value % step:
        raise Refusal(ErrorCause.MISALIGNED, value)


def check_inside(first: int, last: int, unit: int, limit: int, cause: ErrorCause) -> None:
    """Refuse pieces of `unit` at addresses up to `last` not below `limit`; name `first` where that is outside already."""
    if first + unit > limit:
        raise Refusal(cause, first)
    if last + unit > limit:
        raise Refusal(cause, last)
