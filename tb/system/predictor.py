"""The golden device as the scoreboard's predictor."""

import numpy as np

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause, Unit
from sw.device import DeviceError
from sw.golden.device import GoldenDevice
from tb.system.agents import RunItem
from tb.system.checker import Prediction

__all__ = ["Predictor"]


class Predictor:
    """Keeps one golden session as long as the device under test lives, so that both hold the same in their local memories."""

    def __init__(self, config: AcceleratorConfig):
        self.session = GoldenDevice(config).open(1 << 18)

    def predict(self, item: RunItem, memory: np.ndarray) -> Prediction:
        """Return the bytes that a run writes and how it ends.

        The end of a faulty program is stated by the stimulus; the golden device must find the same cause at the same instruction.
        Bus errors are the bench's own doing, and nothing that the golden device knows.
        """
        self.session.memory[:] = memory
        cause, pc = item.tags.get("cause", ErrorCause.NONE), item.tags.get("pc")
        try:
            self.session.run(item.program, item.args)
        except DeviceError as error:
            if (error.cause, error.pc) != (cause, pc):
                raise RuntimeError(f"{item.get_name()} must stop with {cause.name} at {pc}") from error
            return Prediction(cause=cause, pc=pc)
        writes: dict[int, int] = {}
        for command in self.session.trace:
            if command.unit == Unit.STORE:
                fields = command.fields
                for row in range(fields["rows"]):
                    first = fields["dram_addr"] + row * fields["dram_stride"]
                    writes |= {addr: int(self.session.memory[addr]) for addr in range(first, first + fields["row_bytes"])}
        return Prediction(writes=writes, cause=cause, pc=pc)
