"""The controller: registers, instruction fetch, sequencer, queues, semaphores and counters of one accelerator."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AcceleratorConfig, ceil_log2
from hw.control.counters import EventCounters
from hw.control.csr import CsrBank
from hw.control.fetch import InstructionFetch
from hw.control.queue import CommandQueue
from hw.control.semaphores import Semaphores
from hw.control.sequencer import Sequencer
from hw.control.supervisor import Supervisor
from hw.isa import ARGUMENTS, SEMAPHORES, SEQUENCER, ErrorCause, Unit
from hw.ports import AxiLitePort, AxiReadPort, UnitPort
from hw.protect.domains import BLOCKS
from hw.protect.monitor import ProtectionMonitor
from hw.regs import REGISTER_SPACE, counters_of, registers_of
from hw.timing import FETCH_LINE_BYTES

__all__ = ["Controller"]


class Controller(wiring.Component):
    """Everything between the registers and the units.

    The doorbell (CONTROL.start; ignored while busy) clears counters, semaphores, queues and error, and starts the sequencer at
    PROGRAM_ADDR (MISALIGNED if that is no multiple of 64); until the arguments are copied, 32 cycles, further register writes
    are held back. A command is offered to an idle unit in the cycle after its GO executes, or one later if it waits for
    semaphores; a semaphore signalled by `done` in cycle 0 lets a waiting command be offered in cycle 2.

    On the first error, all is stopped as `Supervisor` says. QUEUES, WAITING, SEMAPHORES and PC show the state at the stop until
    the next doorbell. A unit's error is put down to the oldest command that the unit has not finished.

    To the watchdog, progress is whatever moves: an executed instruction, a beat on the bus, a step or a result row of the matrix
    unit, a write of the vector unit, a finished command. So no legal command is too long for it.

    Parameters
    ----------
    config : AcceleratorConfig
        `bus_width`, `rows`, `columns`, `queue_depth` and `command_lines` matter.

    Members
    -------
    s_axil : Out(AxiLitePort)
        The registers of `hw.regs`.
    fetch : Out(AxiReadPort)
        Instruction lines.
    load, matrix, vector, store : In(UnitPort)
        The units.
    load_beat, store_beat : In(1)
        A beat arrives in the load unit, leaves the store unit.
    store_bytes : In(0 to bytes of a beat)
        Bytes strobed in that beat.
    matrix_active : In(1), macs, macs_gated : In(0 to rows × columns)
        The matrix unit feeds activations; useful and padding multiply-accumulates of this cycle.
    matrix_result, vector_write : In(1)
        A result row enters the accumulator; a write of the vector unit is accepted.
    saturated : In(1)
        An accumulator row saturates.
    <name> : In(0 to columns), for each of `config.engine_counters`
        How much the engine's counter grows in this cycle.
    protect_detected, protect_corrected : In(one bit for each of `hw.protect.domains.BLOCKS`)
        Errors of the hardware; there only with `config.protection`.
    irq : Out(1)
        High while an enabled event of IRQ_STATUS is set.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        macs = range(config.peak_macs_per_cycle + 1)
        reports = {"protect_detected": In(len(BLOCKS)), "protect_corrected": In(len(BLOCKS))} if config.protection else {}
        super().__init__({
            "s_axil": Out(AxiLitePort(ceil_log2(REGISTER_SPACE))),
            "fetch": Out(AxiReadPort(config.bus_width)),
            **{unit.name.lower(): In(UnitPort(unit)) for unit in Unit},
            "load_beat": In(1),
            "store_beat": In(1),
            "store_bytes": In(range(config.beat_bytes + 1)),
            "matrix_active": In(1),
            "matrix_result": In(1),
            "vector_write": In(1),
            "macs": In(macs),
            "macs_gated": In(macs),
            "saturated": In(1),
            **{name: In(range(config.columns + 1)) for name in config.engine_counters},
            **reports,
            "irq": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        peak = config.peak_macs_per_cycle
        units = {unit: getattr(self, unit.name.lower()) for unit in Unit}

        m.submodules.csr = csr = CsrBank(
            registers_of(config.engine_counters), absent=() if config.protection else ("PROTECT_DETECTED", "PROTECT_CORRECTED"))
        m.submodules.fetch = fetch = InstructionFetch(
            bus_width=config.bus_width, lines=config.command_lines, protection=config.protection_of("fifos"))
        m.submodules.sequencer = sequencer = Sequencer(
            parity=config.command_parity, protection=config.protection_of("fifos"))
        m.submodules.semaphores = semaphores = Semaphores(len(Unit) + 1)
        m.submodules.supervisor = supervisor = Supervisor(len(Unit) + 3 + bool(config.protection))
        m.submodules.counters = counters = EventCounters(
            {"macs": peak, "macs_gated": peak, "bytes_read": 2 * config.beat_bytes, "bytes_written": config.beat_bytes,
             **dict.fromkeys(config.engine_counters, config.columns)}, counters_of(config.engine_counters))
        queues = {unit: CommandQueue(unit, depth=config.queue_depth, protection=config.protection_of("fifos")) for unit in Unit}
        begin, run = supervisor.begin, Signal()

        connect(m, host=flipped(self.s_axil), csr=csr.bus)
        connect(m, fetch=fetch.bus, memory=flipped(self.fetch))
        connect(m, sequencer=sequencer.instruction, fetch=fetch.instruction)
        connect(m, sequencer=sequencer.acquire, semaphores=semaphores.acquire[SEQUENCER])
        for unit, queue in queues.items():
            name = unit.name.lower()
            m.submodules[f"{name}_queue"] = queue
            connect(m, sequencer=getattr(sequencer, name), queue=queue.i)
            connect(m, queue=queue.o, unit=flipped(units[unit].command))
            connect(m, queue=queue.acquire, semaphores=semaphores.acquire[unit])
            m.d.comb += [
                queue.done.eq(units[unit].done),
                queue.clear.eq(begin),
                queue.run.eq(run),
                units[unit].abort.eq(supervisor.stop),
                semaphores.signal[unit].eq(queue.signal),
            ]

        # A register of its own, since `busy` comes late; a command that is being queued counts already.
        units_idle = Signal()
        m.d.sync += units_idle.eq(~Cat(*(port.busy for port in units.values()), *(queue.count.any() for queue in queues.values()),
                                       *(queue.i.valid for queue in queues.values())).any())
        m.d.comb += [
            # An overflow shows one cycle late: nothing may follow in that cycle.
            run.eq(supervisor.run & ~semaphores.overflow),
            sequencer.start.eq(begin),
            sequencer.run.eq(run),
            sequencer.arguments.eq(Cat(getattr(csr, f"arg{i}") for i in range(ARGUMENTS))),
            sequencer.idle.eq(units_idle),
            semaphores.clear.eq(begin),
            semaphores.signal[SEQUENCER].eq(sequencer.signal),
            fetch.start.eq(begin),
            fetch.program_addr.eq(csr.program_addr),
            fetch.program_length.eq(csr.program_length),
            fetch.enable.eq(run),
            supervisor.start.eq(csr.control.start),
            supervisor.abort.eq(csr.control.abort),
            supervisor.halted.eq(sequencer.halted),
            supervisor.pc.eq(sequencer.pc),
            supervisor.limit.eq(csr.watchdog.limit),
            supervisor.drained.eq(~Cat(fetch.busy, *(port.busy for port in units.values())).any()),
            supervisor.progress.eq(Cat(sequencer.executed, fetch.beat, self.load_beat, self.store_beat, self.matrix_active,
                                       self.matrix_result, self.vector_write, *(port.done for port in units.values())).any()),
        ]
        self._elaborate_faults(m, csr, supervisor, sequencer, semaphores, queues)
        self._elaborate_status(m, csr, supervisor, sequencer, semaphores, queues)
        self._elaborate_counters(m, csr, counters, supervisor, sequencer, fetch, queues)
        if config.protection:
            self._elaborate_protection(m, csr, supervisor)
        return m

    def _elaborate_protection(self, m: Module, csr: CsrBank, supervisor: Supervisor) -> None:
        """Connect the reports of checkers and register banks; one that was detected comes before every other error."""
        m.submodules.monitor = monitor = ProtectionMonitor()
        fault, *_ = supervisor.faults
        m.d.comb += [
            monitor.detected.eq(self.protect_detected),
            monitor.corrected.eq(self.protect_corrected),
            monitor.clear.eq(supervisor.begin),
            monitor.enable.eq(supervisor.busy),
            monitor.pending.eq(csr.protect_detected),
            csr.protect_detected_set.eq(monitor.detected_set),
            csr.protect_corrected_set.eq(monitor.corrected_set),
            csr.protect_counts.detected.eq(monitor.detected_count),
            csr.protect_counts.corrected.eq(monitor.corrected_count),
            csr.protect_cycle.eq(monitor.first_cycle),
            fault.valid.eq(monitor.stop),
            fault.cause.eq(ErrorCause.PROTECTION),
            fault.unit.eq(SEQUENCER),
            fault.pc.eq(supervisor.pc),
            fault.addr.eq(monitor.pending | monitor.detected_set),
        ]

    def _elaborate_faults(self, m: Module, csr: CsrBank, supervisor: Supervisor, sequencer: Sequencer, semaphores: Semaphores,
                          queues: dict[Unit, CommandQueue]) -> None:
        """Collect errors: a bad start, semaphore overflow, then the units, then the sequencer."""
        bad_start, overflow, *unit_faults, sequencer_fault = [*supervisor.faults][bool(self.config.protection):]
        # A signal of its own: were a field of `overflow` driven under an If, its constant fields would become Verilog processes
        # without a trigger.
        overflow_pc = Signal(32)
        sequencer_pc = Signal(32)           # in the cycle before, in which the overflowing signal came
        m.d.sync += sequencer_pc.eq(sequencer.pc)
        m.d.comb += [
            bad_start.valid.eq(sequencer.starting & csr.program_addr.addr[:ceil_log2(FETCH_LINE_BYTES)].any()),
            bad_start.cause.eq(ErrorCause.MISALIGNED),
            bad_start.unit.eq(SEQUENCER),
            bad_start.addr.eq(csr.program_addr),
            overflow.valid.eq(semaphores.overflow),
            overflow.cause.eq(ErrorCause.SEMAPHORE_OVERFLOW),
            overflow.unit.eq(semaphores.overflow_port),
            overflow.addr.eq(semaphores.overflow_index),
            overflow_pc.eq(sequencer_pc),
            overflow.pc.eq(overflow_pc),
            sequencer_fault.valid.eq(sequencer.error),
            sequencer_fault.cause.eq(sequencer.report.cause),
            sequencer_fault.unit.eq(SEQUENCER),
            sequencer_fault.pc.eq(sequencer.pc),
            sequencer_fault.addr.eq(sequencer.report.addr),
        ]
        for unit, fault in zip(Unit, unit_faults, strict=True):
            port, queue = getattr(self, unit.name.lower()), queues[unit]
            m.d.comb += [
                fault.valid.eq(port.error),
                fault.cause.eq(port.report.cause),
                fault.unit.eq(unit),
                fault.pc.eq(queue.oldest_pc),
                fault.addr.eq(port.report.addr),
            ]
            signalled_pc = Signal(32, name=f"{unit.name.lower()}_signalled_pc")
            m.d.sync += signalled_pc.eq(queue.oldest_pc)
            with m.If(semaphores.overflow_port == unit):
                m.d.comb += overflow_pc.eq(signalled_pc)

    def _elaborate_status(self, m: Module, csr: CsrBank, supervisor: Supervisor, sequencer: Sequencer, semaphores: Semaphores,
                          queues: dict[Unit, CommandQueue]) -> None:
        """Connect the registers that show state, and the interrupt."""
        saturated = Signal()
        with m.If(supervisor.begin):
            m.d.sync += saturated.eq(0)
        with m.Elif(supervisor.busy & self.saturated):
            m.d.sync += saturated.eq(1)
        m.d.comb += [
            csr.hold.eq(sequencer.starting),
            csr.status.busy.eq(supervisor.busy),
            csr.status.done.eq(supervisor.done),
            csr.status.error.eq(supervisor.error),
            csr.status.saturated.eq(saturated),
            csr.irq_status_set.done.eq(supervisor.done_event),
            csr.irq_status_set.error.eq(supervisor.error_event),
            self.irq.eq((csr.irq_status.as_value() & csr.irq_enable.as_value()).any()),
            csr.error.cause.eq(supervisor.record.cause),
            csr.error.unit.eq(supervisor.record.unit),
            csr.error_pc.eq(supervisor.record.pc),
            csr.error_addr.eq(supervisor.record.addr),
            csr.pc.eq(sequencer.pc),
            csr.waiting.sequencer.eq(sequencer.waiting),
        ]
        for unit, queue in queues.items():
            name = unit.name.lower()
            m.d.comb += [csr.queues[name].eq(queue.count), csr.waiting[name].eq(queue.waiting)]
        for i in range(SEMAPHORES):
            m.d.comb += getattr(csr, f"semaphores{i // 4}")[f"s{i}"].eq(semaphores.counts[i])

    def _elaborate_counters(self, m: Module, csr: CsrBank, counters: EventCounters, supervisor: Supervisor,
                            sequencer: Sequencer, fetch: InstructionFetch, queues: dict[Unit, CommandQueue]) -> None:
        """Connect events to counters, and counters to registers."""
        beats_read = Signal(2)
        m.d.comb += [
            counters.clear.eq(supervisor.begin),
            counters.enable.eq(supervisor.busy),
            beats_read.eq(self.load_beat + fetch.beat),
            counters.cycles.eq(1),
            counters.instructions.eq(sequencer.executed),
            counters.macs.eq(self.macs),
            counters.macs_gated.eq(self.macs_gated),
            counters.bytes_read.eq(beats_read << ceil_log2(self.config.beat_bytes)),
            counters.bytes_written.eq(Mux(self.store_beat, self.store_bytes, 0)),
            counters.load_stall.eq(self.load.busy & ~self.load_beat),
            counters.store_stall.eq(self.store.busy & ~self.store_beat),
            counters.matrix_active.eq(self.matrix_active),
            counters.saturations.eq(self.saturated),
        ]
        for unit, queue in queues.items():
            name = unit.name.lower()
            m.d.comb += [
                getattr(counters, f"{name}_busy").eq(getattr(self, name).busy),
                getattr(counters, f"{name}_wait").eq(queue.waiting),
            ]
        m.d.comb += [getattr(counters, name).eq(getattr(self, name)) for name in self.config.engine_counters]
        for counter in counters.counters:
            low, high = getattr(csr, f"{counter.name}_lo"), getattr(csr, f"{counter.name}_hi")
            m.d.comb += Cat(low.as_value(), high.as_value()).eq(counters.values[counter.name])
