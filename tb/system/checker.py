"""What must hold of one run: the scoreboard's rules, free of any simulator so that they can be tested themselves."""

from dataclasses import dataclass, field

from hw.isa import ErrorCause

__all__ = ["Observation", "Prediction", "RunChecker"]


@dataclass(kw_only=True)
class Prediction:
    """What the golden model says of a run.

    Attributes
    ----------
    writes : dict of int to int
        Byte address → value, for each byte that the run writes.
    cause : ErrorCause
        NONE when the run must reach HALT.
    pc : int or None
        Where an error must be reported; None when there is no error, or when it can strike anywhere (bus errors).
    """

    writes: dict[int, int] = field(default_factory=dict)
    cause: ErrorCause = ErrorCause.NONE
    pc: int | None = None


@dataclass(kw_only=True)
class Observation:
    """What the monitors saw of a run: the bytes written on the bus in order, and how it ended."""

    writes: list[tuple[int, int]] = field(default_factory=list)
    done: bool = False
    cause: ErrorCause = ErrorCause.NONE
    pc: int | None = None


class RunChecker:
    """Compares predictions with observations, run by run; `errors` collects what does not hold."""

    def __init__(self) -> None:
        self.runs = 0
        self.bytes = 0
        self.errors: list[str] = []

    def check(self, name: str, prediction: Prediction, observation: Observation) -> None:
        """Compare one run.

        A wrong byte, a byte missing, a byte too many (also the right byte written twice), another end than predicted: each is an
        error. A run that must fail may have written any of its bytes, and no other, before it stopped.
        """
        self.runs += 1
        before = len(self.errors)
        must_halt = prediction.cause == ErrorCause.NONE
        if (observation.cause, observation.done) != (prediction.cause, must_halt):
            self._fail(name, f"ended with {observation.cause.name}, done={observation.done}; expected {prediction.cause.name}")
        elif prediction.pc is not None and observation.pc != prediction.pc:
            self._fail(name, f"error at instruction {observation.pc}, expected {prediction.pc}")
        seen: set[int] = set()
        for addr, value in observation.writes:
            if addr in seen:
                self._fail(name, f"byte {addr:#x} written twice")
            elif addr not in prediction.writes:
                self._fail(name, f"byte {addr:#x} written, and nothing was expected there")
            elif value != prediction.writes[addr]:
                self._fail(name, f"byte {addr:#x} is {value:#04x}, expected {prediction.writes[addr]:#04x}")
            seen.add(addr)
            self.bytes += 1
        missing = prediction.writes.keys() - seen
        if must_halt and missing:
            self._fail(name, f"{len(missing)} bytes never written, the first at {min(missing):#x}")
        if len(self.errors) > before + 8:
            self.errors[before + 8:] = [f"{name}: … and {len(self.errors) - before - 8} more"]

    def _fail(self, name: str, text: str) -> None:
        self.errors.append(f"{name}: {text}")

    def finish(self) -> None:
        """Raise AssertionError if anything failed, or if nothing at all was compared."""
        if not self.runs or not self.bytes:
            self.errors.append(f"nothing was compared: {self.runs} runs, {self.bytes} bytes")
        assert not self.errors, "\n".join(self.errors)
