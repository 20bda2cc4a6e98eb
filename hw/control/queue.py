"""The queue of one unit: commands wait here for their semaphores, and are remembered until they are done."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.control.semaphores import AcquirePort
from hw.isa import SEMAPHORES, Unit
from hw.ports import descriptor_layout
from hw.protect.domains import NONE
from hw.protect.storage import storage, use
from hw.timing import IN_FLIGHT

__all__ = ["PC_WIDTH", "CommandQueue", "command_layout"]

PC_WIDTH = 32


def command_layout(unit: Unit) -> data.StructLayout:
    """Return a queue entry: the snapshot of the descriptor, the wait and signal masks, and the instruction's index."""
    return data.StructLayout(
        {"descriptor": descriptor_layout(unit), "wait": SEMAPHORES, "signal": SEMAPHORES, "pc": PC_WIDTH})


def _successor(index: Signal, depth: int) -> Value:
    return Mux(index == depth - 1, 0, index + 1)


class CommandQueue(wiring.Component):
    """First-in first-out queue in front of a unit.

    A command that waits for no semaphore is offered to the unit one cycle after it came; otherwise one cycle after its
    semaphores were granted. One command every cycle, or every second cycle where commands wait. The unit has at most
    `IN_FLIGHT` commands that are not done; the next is offered one cycle after a `done`.

    Parameters
    ----------
    unit : Unit
        Whose descriptor it holds.
    depth : int
        Commands that wait, those that the unit has taken not included.
    protection : str
        What guards its memories: "none", "parity" or "secded".

    Members
    -------
    i : In(stream of `command_layout(unit)`)
    o : Out(stream of `descriptor_layout(unit)`)
        To the unit.
    done : In(1)
        The unit has finished its oldest command.
    acquire : Out(AcquirePort), signal : Out(SEMAPHORES)
        Request of the head; signals of the command that is done, in the cycle of `done`.
    clear : In(1)
        Forget everything.
    run : In(1)
        While low, nothing is requested, offered or signalled, and the contents stay readable.
    count : Out(0 to depth + IN_FLIGHT)
        Commands waiting and taken.
    waiting : Out(1)
        The head waits for semaphores.
    oldest_pc : Out(32)
        Instruction of the oldest command that is not done.
    """

    def __init__(self, unit: Unit, *, depth: int, protection: str = NONE):
        self._unit, self._depth, self._protection = unit, depth, protection
        super().__init__({
            "i": In(stream.Signature(command_layout(unit))),
            "o": Out(stream.Signature(descriptor_layout(unit))),
            "done": In(1),
            "acquire": Out(AcquirePort()),
            "signal": Out(SEMAPHORES),
            "clear": In(1),
            "run": In(1),
            "count": Out(range(depth + IN_FLIGHT + 1)),
            "waiting": Out(1),
            "oldest_pc": Out(PC_WIDTH),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth, remembered = self._depth, self._depth + IN_FLIGHT
        waiting_layout = data.StructLayout({"descriptor": descriptor_layout(self._unit), "wait": SEMAPHORES})
        order_layout = data.StructLayout({"signal": SEMAPHORES, "pc": PC_WIDTH})
        m.submodules.commands = commands = storage(self._protection, shape=waiting_layout, depth=depth)
        m.submodules.order = order = storage(self._protection, shape=order_layout, depth=remembered)
        push_command, push_order = commands.write_port(), order.write_port()
        head, oldest = commands.read_port(domain="comb"), order.read_port(domain="comb")

        # `commands` holds the `queued` ones that wait; `order` those and, before them, the `taken` ones that are not done.
        last_index = Signal(range(depth))
        head_index = Signal(range(depth))
        newest_index = Signal(range(remembered))
        oldest_index = Signal(range(remembered))
        queued = Signal(range(depth + 1))
        taken = Signal(range(IN_FLIGHT + 1))
        acquired = Signal()
        push, pop, finish = Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(queued != depth),
            push.eq(self.i.valid & self.i.ready),
            push_command.addr.eq(last_index),
            push_command.data.descriptor.eq(self.i.p.descriptor),
            push_command.data.wait.eq(self.i.p.wait),
            push_command.en.eq(push),
            push_order.addr.eq(newest_index),
            push_order.data.signal.eq(self.i.p.signal),
            push_order.data.pc.eq(self.i.p.pc),
            push_order.en.eq(push),

            head.addr.eq(head_index),
            self.waiting.eq((queued != 0) & head.data.wait.any() & ~acquired),
            self.acquire.valid.eq(self.waiting & self.run),
            self.acquire.mask.eq(head.data.wait),
            self.o.valid.eq((queued != 0) & ~self.waiting & (taken != IN_FLIGHT) & self.run),
            self.o.payload.eq(head.data.descriptor),
            pop.eq(self.o.valid & self.o.ready),

            oldest.addr.eq(oldest_index),
            self.oldest_pc.eq(oldest.data.pc),
            finish.eq(self.done & (taken != 0) & self.run),
            self.signal.eq(Mux(finish, oldest.data.signal, 0)),
            self.count.eq(queued + taken),
        ]
        use(m, head, queued != 0, pop)
        use(m, oldest, taken != 0, finish)
        m.d.sync += [queued.eq(queued + push - pop), taken.eq(taken + pop - finish)]
        with m.If(push):
            m.d.sync += [last_index.eq(_successor(last_index, depth)), newest_index.eq(_successor(newest_index, remembered))]
        with m.If(pop):
            m.d.sync += [head_index.eq(_successor(head_index, depth)), acquired.eq(0)]
        with m.Elif(self.acquire.grant):
            m.d.sync += acquired.eq(1)
        with m.If(finish):
            m.d.sync += oldest_index.eq(_successor(oldest_index, remembered))
        with m.If(self.clear):
            state = (last_index, head_index, newest_index, oldest_index, queued, taken, acquired)
            m.d.sync += [register.eq(0) for register in state]
        return m
