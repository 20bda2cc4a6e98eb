"""A session of a PIM whose every run the golden device repeats: results and the rows that a program writes are compared."""

from collections.abc import Mapping

import numpy as np

from sw.device import Result
from sw.golden.pim.device import GoldenPimDevice
from sw.pim.device import Floats, PimSession
from sw.pim.program import Memory, PimProgram, read_rows, write_rows

__all__ = ["CheckedPimSession"]


class CheckedPimSession:
    """Implements `sw.pim.device.PimSession`; results come from the session that is checked.

    Parameters
    ----------
    session : PimSession
        What is checked.
    golden : GoldenPimDevice
        Of the same config and channels.

    Attributes
    ----------
    match : bool
        Whether everything was equal so far.
    differs : str or None
        The first program whose results or memory differed.
    """

    def __init__(self, session: PimSession, golden: GoldenPimDevice):
        self._session, self._golden, self._config = session, golden.open(), golden.config
        self.match = True
        self.differs: str | None = None

    @property
    def memory(self) -> Memory:
        """The checked device's DRAM."""
        return self._session.memory

    def run(self, program: PimProgram, args: Mapping[str, int] | None = None,
            inputs: Mapping[str, Floats] | None = None) -> Result:
        """Run `program` on both devices from the same memory; see `sw.pim.device.PimSession.run`."""
        regions = [region for region in program.regions if region.role != "constant"]
        for region in regions:
            data = read_rows(self._config, self.memory[region.channel], region.addr, region.size)
            write_rows(self._config, self._golden.memory[region.channel], region.addr, data)
        result, expected = self._session.run(program, args, inputs), self._golden.run(program, args, inputs)
        same = all(np.array_equal(result.outputs[name], data) for name, data in expected.outputs.items())
        for region in regions:
            ours, theirs = (read_rows(self._config, of.memory[region.channel], region.addr, region.size)
                            for of in (self, self._golden))
            same &= np.array_equal(ours, theirs)
        if not same:
            self.match, self.differs = False, self.differs or program.name
        return result

    def close(self) -> None:
        """Close both sessions."""
        self._session.close()
        self._golden.close()
