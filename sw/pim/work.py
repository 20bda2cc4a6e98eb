"""PIM commands as the work that scheduling sees: which buffer entries they read and write, and for how long."""

from collections.abc import Sequence

from hw.pim.config import PimConfig, format_has_sides
from hw.pim.isa import OPCODES, MacMode, PimOpcode, PimRegister, Queue
from sw.pim import softmax_times
from sw.pim.expand import Command, Settings, expand
from sw.pim.schedule import IO_LATENCY, MAC_LATENCY, Entry, Work

__all__ = ["DEQUANTIZE_LATENCY", "reserved_periods", "work_of", "works_of"]

DEQUANTIZE_LATENCY = 12     # from an output to its dequantized sum in RTL (`Dequantizer.latency`), of int32 accumulators

_LATE: Entry = ("l", 0)
_BARRIERS = (PimOpcode.BARRIER, PimOpcode.SYNC, PimOpcode.EOC)


def works_of(config: PimConfig, words: Sequence[int]) -> list[Work]:
    """Return the work of a whole list, loops run.

    Raises
    ------
    CommandError
        If the list cannot be run (`sw.pim.expand`).
    """
    settings = Settings()
    return [work_of(config, command, settings) for command in expand(words, settings)]


def reserved_periods(beats: int, k_beats: int) -> int:
    """Return the periods for which hardware keeps room in the buffers for a MAC: it divides by the highest bit of K_BEATS."""
    return (beats - 1 >> k_beats.bit_length() - 1) + 1


def work_of(config: PimConfig, command: Command, settings: Settings) -> Work:
    """Return what scheduling needs to know of a command: ("x", slice), ("o", entry), ("s", head) and ("l", 0), the (m, l) of the
    last SFO, are what can be shared.

    Parameters
    ----------
    config : PimConfig
    command : Command
        As `sw.pim.expand` yields it.
    settings : Settings
        As they are at that command.
    """
    fields, queue = command.fields, OPCODES[command.opcode].queue
    if queue is Queue.SEQUENCER:
        return Work(queue=queue, barrier=command.opcode in _BARRIERS)
    count = fields.get("cnt", 0) + 1
    slices = tuple(("x", fields.get("xidx", 0) + i) for i in range(count))
    entries = tuple(("o", fields.get("aidx", 0) + i) for i in range(count))
    head, busy = ("s", fields.get("aidx", 0)), count * config.pim_per_burst
    burst_slices = tuple(("x", fields.get("xidx", 0) + i) for i in range(count * config.beats))
    match command.opcode:
        case PimOpcode.WRX:
            return Work(queue=queue, writes=slices, cycles=count)
        case PimOpcode.MVX:
            cycles = softmax_times.mvx_cycles(config, count)
            return Work(queue=queue, reads=(head,), writes=slices, latency=cycles, cycles=cycles)
        case PimOpcode.WRACC:
            return Work(queue=queue, writes=entries, cycles=count)
        case PimOpcode.WRS:
            return Work(queue=queue, writes=tuple(("z", fields["xidx"] + i) for i in range(count)))
        case PimOpcode.DQA:
            partial = tuple(("d", fields["xidx"] + i) for i in range(count))
            kept = (*partial, *entries) if fields["last"] else partial
            return Work(queue=queue, reads=entries if fields["clr"] else (*entries, *partial), writes=kept,
                        latency=DEQUANTIZE_LATENCY, cycles=count * (1 + 2 * fields["last"]))
        case PimOpcode.RDACC:
            return Work(queue=queue, reads=entries, cycles=count)
        case PimOpcode.MVS:
            cycles = softmax_times.mvs_cycles(count)
            return Work(queue=queue, reads=entries, writes=(("s", fields["xidx"]),), adds=True, latency=cycles, cycles=cycles)
        case PimOpcode.STS:
            cycles = softmax_times.sts_cycles()
            return Work(queue=queue, reads=(("s", fields["xidx"]), _LATE), writes=entries, latency=cycles, cycles=cycles)
        case PimOpcode.LDS:
            cycles = softmax_times.lds_cycles()
            return Work(queue=queue, reads=(*entries, _LATE), writes=(("s", fields["xidx"]),), latency=cycles, cycles=cycles)
        case PimOpcode.AF:
            gated = entries + tuple(("o", fields["aidx"] + count + i) for i in range(count)) if fields["mode"] == 3 else entries
            filled = slices[:-(-count * config.segments // config.width)] if fields["clr"] else slices
            elements = len(gated) * (config.segments if fields["clr"] else config.width)
            return Work(queue=queue, reads=gated, writes=filled, latency=IO_LATENCY + elements, cycles=elements)
        case PimOpcode.SFM | PimOpcode.SFO:
            return _softmax(config, command, settings)
        case PimOpcode.MRG:
            mine, other = (_outputs(config, fields[name], settings) for name in ("aidx", "xidx"))
            share = fields["aidx"] == fields["xidx"]
            cycles = (softmax_times.share_cycles if share else softmax_times.merge_cycles)(config, len(mine))
            return Work(queue=queue, reads=(head, ("s", fields["xidx"]), _LATE, *mine, *other), writes=(head, *mine), step=0,
                        held=cycles, latency=cycles, cycles=cycles)
        case PimOpcode.MAC:
            return _mac(config, fields, settings)
        case PimOpcode.EWMUL | PimOpcode.EWADD:
            return Work(queue=queue, reads=burst_slices, writes=burst_slices, latency=MAC_LATENCY, cycles=busy)
        case PimOpcode.RDCP:
            return Work(queue=queue, writes=burst_slices, latency=MAC_LATENCY, cycles=busy)
        case PimOpcode.WRCP:
            return Work(queue=queue, reads=burst_slices, cycles=busy)
        case PimOpcode.KVAP:
            width = config.token_beats(settings.of(PimRegister.HEAD_DIM))
            return Work(queue=queue, reads=tuple(("x", fields["xidx"] + i) for i in range(width)), cycles=max(1, width))
        case _:
            return Work(queue=queue)


def _softmax(config: PimConfig, command: Command, settings: Settings) -> Work:
    head, count = ("s", command.fields["aidx"]), command.fields["value"]
    if command.opcode is PimOpcode.SFM:
        cycles = softmax_times.sfm_cycles(config, count)
        return Work(queue=Queue.IO, reads=(head, _LATE), writes=(head,), latency=cycles, cycles=cycles)
    outputs = _outputs(config, command.fields["aidx"], settings)
    cycles = softmax_times.sfo_cycles(config, count, len(outputs))
    return Work(queue=Queue.IO, reads=(head, _LATE, *outputs), writes=(head, *outputs, _LATE), step=0, held=cycles,
                latency=cycles, late=softmax_times.sfo_state_cycles(config, count) - cycles, cycles=cycles)


def _outputs(config: PimConfig, head: int, settings: Settings) -> tuple[Entry, ...]:
    first = settings.heads.get(head, {}).get("output", 0)
    return tuple(("o", first + i) for i in range(config.token_beats(settings.of(PimRegister.HEAD_DIM))))


def _has_sides(config: PimConfig, settings: Settings) -> bool:
    """Return whether the weights of MAC have zero points or special values."""
    return format_has_sides(config.kvtype if settings.of(PimRegister.OPERANDS) else config.wtype)


def _mac(config: PimConfig, fields: dict[str, int], settings: Settings) -> Work:
    count, per_output = (fields["cnt"] + 1) * config.beats, max(1, settings.of(PimRegister.K_BEATS))
    groups, inner = -(-count // per_output), min(count, per_output)
    elements = range(fields["xidx"], fields["xidx"] + groups * config.segments)
    if fields["mode"] == MacMode.TREE:
        slices = tuple(("x", fields["xidx"] + i) for i in range(inner))
        entries = tuple(("o", fields["aidx"] + i) for i in range(groups))
        step = max(1, per_output * config.pim_per_burst // config.beats)
    else:
        slices = tuple(dict.fromkeys(("x", element // config.width) for element in elements))
        entries = tuple(("o", fields["aidx"] + i) for i in range(inner))
        step = 1
    if _has_sides(config, settings):
        first = fields["aidx"] * config.segments
        sides = range(first, first + groups * config.segments) if fields["mode"] == MacMode.TREE else elements
        slices += tuple(("z", number) for number in sides)
    busy = (fields["cnt"] + 1) * config.pim_per_burst
    # An entry of BCAST is written again by every element; it can be read after the last.
    latency = MAC_LATENCY + (busy - len(entries) if fields["mode"] != MacMode.TREE else step - 1)
    return Work(queue=Queue.COMPUTE, reads=slices, writes=entries, adds=True, step=step, held=busy, latency=latency, cycles=busy)
