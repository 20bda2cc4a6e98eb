"""Runs inside a simulator with cocotb: injects a list of faults by deposits through the VPI, each from the first cycle on.

Reads the job that `flows.fault.engines.cocotb_engine` has pickled, and leaves the outcomes beside it. Shares no code with the
other engines: what an outcome is stands here once more, in Python.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import Timer

from flows.fault.records import OUTCOME, Kind, Outcome

_WORD = 0xFFFF_FFFF
_INVERTED = {Kind.SEU, Kind.MBU, Kind.INTERMITTENT}


def _mixed(x: int) -> int:
    x = (x ^ (x >> 16)) * 0x7FEB352D & _WORD
    x = (x ^ (x >> 15)) * 0x846CA68B & _WORD
    return x ^ (x >> 16)


def _signature(differences: list[tuple[int, int]]) -> int:
    """Return the signature of wrong words: hashed place and difference of each."""
    low = sum(_mixed(difference ^ place) for place, difference in differences) & _WORD
    high = sum(_mixed((difference + (place ^ 0x5BD1E995)) & _WORD) for place, difference in differences) & _WORD
    return (high << 32 | low or 1) if differences else 0


def _signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> (width - 1) else value


class _Run:
    """One run of the design, with a fault or without."""

    def __init__(self, bench: "_Bench", fault: dict[str, int] | None):
        self.bench, self.fault = bench, fault
        self.words: list[list[int]] = []            # observed in each cycle
        self.counted: list[list[bool]] = []
        self.memories: dict[str, list[int]] = {}
        self.flag, self.corrected, self.violated, self.ended = -1, False, False, False
        self.cycles = 0

    def active(self, cycle: int) -> bool:
        fault = self.fault
        if fault is None or cycle < fault["cycle"]:
            return False
        if fault["kind"] in (Kind.SEU, Kind.MBU):
            return cycle == fault["cycle"]
        endless = fault["kind"] in (Kind.STUCK0, Kind.STUCK1) and not fault["duration"]
        return endless or cycle < fault["cycle"] + fault["duration"]

    def disturb(self, active: bool) -> None:
        fault = self.fault
        if fault is None:
            return
        handle, mask = self.bench.site(fault), fault["mask"] << fault["low"]
        if not fault["state"]:
            handle.value = mask if active else 0
        elif active:
            value = int(handle.value)
            if fault["kind"] in _INVERTED:
                handle.value = value ^ mask
            else:
                handle.value = value & ~mask if fault["kind"] == Kind.STUCK0 else value | mask

    async def go(self, limit: int) -> None:
        bench, job, dut = self.bench, self.bench.job, self.bench.dut
        bench.restore()
        await Timer(1, unit="ns")
        for cycle in range(limit):
            for port, values in job["stimuli"].items():
                value = values[min(cycle, len(values) - 1)]
                if not cycle or cycle >= len(values) or value != values[cycle - 1]:
                    getattr(dut, port).value = value
            self.disturb(self.active(cycle))
            dut.clk.value = 0
            await Timer(1, unit="ns")
            self.words.append([int(getattr(dut, port).value) for port in job["observed"]])
            self.counted.append([not (valid := job["valid"].get(port)) or bool(int(getattr(dut, valid).value))
                                 for port in job["observed"]])
            if self.flag < 0 and bench.is_high("detected"):
                self.flag = cycle
            self.corrected |= bench.is_high("corrected")
            self.violated |= bench.is_high("violation")
            self.cycles = cycle + 1
            self.ended = cycle + 1 == limit if job["done"] is None else bench.is_high("done")
            if self.ended:
                break
            dut.clk.value = 1
            await Timer(1, unit="ns")
        if self.fault is not None and not self.fault["state"]:
            bench.site(self.fault).value = 0
        if self.ended:
            self.memories = {name: [int(getattr(dut, variable)[i].value) for first, end in ranges for i in range(first, end)]
                             for name, (variable, ranges) in job["observed_memory"].items()}

    def outcome(self, golden: "_Run") -> Any:
        """Return the OUTCOME row of this run."""
        job = self.bench.job
        wrong: list[tuple[int, int, int, int, int]] = []        # cycle, place, right, found, width
        for cycle, (rights, founds) in enumerate(zip(golden.words, self.words, strict=False)):
            row = 0
            for index, width in enumerate(job["observed"].values()):
                for low in range(0, width, 32):
                    right, found = rights[index] >> low & _WORD, founds[index] >> low & _WORD
                    if right != found and golden.counted[cycle][index]:
                        place = _mixed((cycle * 0x9E3779B1 + row + 1) & _WORD)
                        wrong.append((cycle, place, right, found, min(32, width - low)))
                    row += 1
        for name, values in self.memories.items():
            width, ranges = job["memory_widths"][name], job["observed_memory"][name][1]
            addresses = [i for first, end in ranges for i in range(first, end)]
            memory = _mixed((job["memory_numbers"][name] + 0x2545F491) & _WORD)
            for address, right_word, found_word in zip(addresses, golden.memories[name], values, strict=True):
                for low in range(0, width, 32):
                    right, found = right_word >> low & _WORD, found_word >> low & _WORD
                    if right != found:
                        place = _mixed((memory + address * -(-width // 32) + low // 32) & _WORD)
                        wrong.append((self.cycles - 1, place, right, found, min(32, width - low)))
        if self.flag < 0 and not self.ended:
            kind = Outcome.HANG
        elif self.violated:
            kind = Outcome.PROTOCOL
        elif wrong or not self.ended:
            kind = Outcome.SDC if self.flag < 0 else Outcome.DUE
        elif self.flag >= 0:
            kind = Outcome.DETECTED_BENIGN
        else:
            kind = Outcome.CORRECTED if self.corrected else Outcome.MASKED
        outcome = np.zeros((), OUTCOME)
        outcome["outcome"], outcome["first_flag"], outcome["end"] = kind, self.flag, self.cycles
        outcome["first_difference"] = wrong[0][0] if wrong else -1
        outcome["wrong_words"] = len(wrong)
        outcome["largest_error"] = max((abs(_signed(right, width) - _signed(found, width)) for *_, right, found, width in wrong),
                                   default=0)
        outcome["signature"] = _signature([(place, right ^ found) for _, place, right, found, _ in wrong])
        return outcome


class _Bench:
    """The design and the job."""

    def __init__(self, dut: Any, job: dict[str, Any]):
        self.dut, self.job = dut, job
        self.registers = {name: getattr(dut, name) for name in job["registers"]}

    def is_high(self, role: str) -> bool:
        port = self.job[role]
        return port is not None and bool(int(getattr(self.dut, port).value))

    def site(self, fault: dict[str, Any]) -> Any:
        handle = getattr(self.dut, fault["variable"])
        return handle[fault["index"]] if fault["is_memory"] else handle

    def restore(self) -> None:
        """Deposit what every register and memory holds in cycle 0."""
        self.dut.clk.value = 0
        self.dut.rst.value = 0
        for name, value in self.job["registers"].items():
            self.registers[name].value = value
        for variable, words in self.job["contents"].items():
            memory = getattr(self.dut, variable)
            for index, word in enumerate(words):
                memory[index].value = word


@cocotb.test()
async def inject(dut: Any) -> None:
    """Run without faults, then once for each fault."""
    folder = Path(os.environ["HEDDLE_FAULT_JOB"])
    bench = _Bench(dut, pickle.loads((folder / "job.pickle").read_bytes()))
    job = bench.job
    golden = _Run(bench, None)
    await golden.go(job["limit"] if job["done"] else job["cycles"])
    outcomes = np.zeros(len(job["faults"]), OUTCOME)
    deadline = min(job["limit"], 2 * golden.cycles + job["watchdog"]) if job["done"] else job["cycles"]
    for index, fault in enumerate(job["faults"]):
        run = _Run(bench, fault)
        await run.go(deadline)
        outcomes[index] = run.outcome(golden)
    facts = {"ended": golden.ended, "cycles": golden.cycles, "flagged": golden.flag >= 0 or golden.corrected,
             "violated": golden.violated}
    (folder / "result.pickle").write_bytes(pickle.dumps((facts, outcomes)))
