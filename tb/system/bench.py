"""The pyuvm environment of the whole accelerator, and its tests; run under cocotb by `test_system.py`."""

import os

import cocotb
import numpy as np
import pyuvm
from cocotb.clock import Clock
from pyuvm import (
    uvm_component,
    uvm_env,
    uvm_factory,
    uvm_sequence,
    uvm_subscriber,
    uvm_test,
    uvm_tlm_analysis_fifo,
)

from hw.config import AcceleratorConfig
from hw.isa import Dataflow, ErrorCause, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource
from tb.programs import INPUT_BYTES, RandomProgram, faulty_programs, random_program, wipe_program
from tb.system.agents import STALLS, CsrAgent, MemoryAgent, RunItem, WriteMonitor
from tb.system.checker import Observation, Prediction, RunChecker
from tb.system.coverage import Coverage
from tb.system.predictor import Predictor

CONFIG = AcceleratorConfig.from_json(os.environ["HEDDLE_BENCH_CONFIG"])
SEED = int(os.environ["HEDDLE_BENCH_SEED"])


class Scoreboard(uvm_component):
    """Predicts each run on the golden device when it starts, and compares what the bus monitor saw when it ends."""

    def build_phase(self):
        self.started = uvm_tlm_analysis_fifo("started", self)
        self.finished = uvm_tlm_analysis_fifo("finished", self)
        self.written = uvm_tlm_analysis_fifo("written", self)
        self.predictor = Predictor(CONFIG)
        self.checker = RunChecker()

    async def run_phase(self):
        while True:
            item, memory = await self.started.get()
            prediction = self.predict(item, memory)
            _, observation = await self.finished.get()
            self.checker.check(item.get_name(), prediction, self.observed(observation))

    def predict(self, item: RunItem, memory: np.ndarray) -> Prediction:
        """Return what must happen; the twin that must fail overrides this."""
        return self.predictor.predict(item, memory)

    def observed(self, observation: Observation) -> Observation:
        """Add the bytes that the monitor saw during the run."""
        while True:
            available, write = self.written.try_get()
            if not available:
                return observation
            observation.writes.append(write)

    def check_phase(self):
        self.checker.finish()


class BrokenScoreboard(Scoreboard):
    """Predicts one bit wrongly, so that a bench that notices nothing is itself noticed."""

    def predict(self, item, memory):
        prediction = super().predict(item, memory)
        first = min(prediction.writes)
        prediction.writes[first] ^= 1
        return prediction


class CommandCoverage(uvm_subscriber):
    """Which kinds of commands, shapes, stalls and errors have been run."""

    def build_phase(self):
        yes_no = (False, True)
        steps = {"source": list(VectorSource), "function": list(VectorFunction), "output": list(VectorOutput), "sum": range(3),
                 "max": range(3), "mask": yes_no, "row0": yes_no} if CONFIG.vector == "transformer" else {}
        self.coverage = Coverage(steps | {
            "dataflow": [Dataflow[name.upper()] for name in CONFIG.dataflows], "ragged_m": yes_no, "ragged_n": yes_no,
            "ragged_k": yes_no, "accumulate": yes_no, "serialize": yes_no, "transpose": yes_no, "unpack": yes_no,
            "partial_beat": yes_no, "bias": yes_no, "scales": yes_no, "maximum": yes_no, "stall": list(STALLS), "end": END_BINS,
        }, crosses=[("dataflow", "ragged_m"), ("dataflow", "ragged_k"), ("dataflow", "accumulate"), ("bias", "scales")])

    def write(self, item):
        sample = self.coverage.sample
        sample(stall=item.stall, end=item.tags.get("cause", ErrorCause.NONE))
        for unit, fields in item.tags.get("commands", ()):
            if unit == Unit.MATRIX:
                sample(dataflow=Dataflow(fields["dataflow"]), ragged_m=bool(fields["m"] % CONFIG.rows),
                       ragged_n=bool(fields["n"] % CONFIG.columns), ragged_k=bool(fields["k"] % CONFIG.rows),
                       accumulate=bool(fields["accumulate"]), serialize=bool(fields["serialize"]))
            elif unit == Unit.VECTOR:
                sample(bias=fields["c_use"] == StreamUse.BIAS, scales=bool(fields["b_en"]), maximum=fields["middle"] == 2)
                if CONFIG.vector == "transformer":
                    sample(source=VectorSource(fields["source"]), function=VectorFunction(fields["function"]),
                           output=VectorOutput(fields["output"]), sum=fields["sum"], max=fields["max"],
                           mask=bool(fields["mask_en"]), row0=bool(fields["row0_en"]))
            else:
                sample(partial_beat=bool(fields["row_bytes"] % CONFIG.beat_bytes))
                if unit == Unit.LOAD:
                    sample(transpose=bool(fields["transpose"]), unpack=bool(fields["unpack"]))


END_BINS = [ErrorCause.NONE, ErrorCause.BAD_SIZE, ErrorCause.MISALIGNED, ErrorCause.SCRATCHPAD_RANGE,
            ErrorCause.ACCUMULATOR_RANGE, ErrorCause.UNSUPPORTED, ErrorCause.ILLEGAL_INSTRUCTION, ErrorCause.LOOP_STACK,
            ErrorCause.PROGRAM_COUNTER, ErrorCause.FIELD_OVERFLOW, ErrorCause.BUS_READ, ErrorCause.BUS_WRITE,
            ErrorCause.BUS_FETCH, *([ErrorCause.ROW_SCALAR_RANGE] if CONFIG.vector == "transformer" else [])]


class Environment(uvm_env):
    """Agents, monitor, scoreboard and coverage, connected."""

    def build_phase(self):
        self.csr = CsrAgent("csr", self)
        self.memory = MemoryAgent("memory", self)
        self.monitor = WriteMonitor("monitor", self)
        self.scoreboard = Scoreboard.create("scoreboard", self)
        self.coverage = CommandCoverage("coverage", self)

    def connect_phase(self):
        driver = self.csr.driver
        driver.memory = self.memory
        driver.started.connect(self.scoreboard.started.analysis_export)
        driver.finished.connect(self.scoreboard.finished.analysis_export)
        driver.items.connect(self.coverage.analysis_export)
        self.monitor.port.connect(self.scoreboard.written.analysis_export)


class RandomPrograms(uvm_sequence):
    """Random legal programs under every kind of stall."""

    def __init__(self, name: str, count: int):
        super().__init__(name)
        self.count = count

    async def body(self):
        for i in range(self.count):
            random = random_program(CONFIG, SEED + i, rounds=1)
            stall = list(STALLS)[i % len(STALLS)]
            await _run(self, RunItem(f"random-{SEED + i}-{stall}", random.program, stall=stall, seed=SEED + i,
                                     tags={"commands": random.commands}))


class FaultyPrograms(uvm_sequence):
    """Every wrong command, then bus errors on each kind of access, with correct programs after them."""

    async def body(self):
        good = random_program(CONFIG, SEED, rounds=1)
        for i, faulty in enumerate(faulty_programs(CONFIG)):
            await _run(self, RunItem(f"{faulty.program.name}-{i}", faulty.program, stall="light", seed=i,
                                     tags={"cause": faulty.cause, "pc": faulty.pc}))
        await self._recover(good)
        output, code_addr = good.program.regions[2], good.program.code_addr
        for cause, faulty in ((ErrorCause.BUS_READ, range(INPUT_BYTES)), (ErrorCause.BUS_FETCH, range(code_addr, code_addr + 8)),
                              (ErrorCause.BUS_WRITE, range(output.addr, output.addr + output.size))):
            await _run(self, RunItem(f"bus-{cause.name.lower()}", good.program, faulty=faulty, tags={"cause": cause}))
            await self._recover(good)

    async def _recover(self, good: RandomProgram) -> None:
        """Show that nothing is left of an error: known local memories, then a correct program."""
        await _run(self, RunItem("wipe", wipe_program(CONFIG)))
        await _run(self, RunItem("after", good.program, tags={"commands": good.commands}))


async def _run(sequence: uvm_sequence, item: RunItem) -> None:
    await sequence.start_item(item)
    await sequence.finish_item(item)


class BaseTest(uvm_test):
    """Clock, environment, and one sequence."""

    def build_phase(self):
        self.environment = Environment("environment", self)

    def sequence(self) -> uvm_sequence:
        """Return what to run."""
        return RandomPrograms("random", 2)

    async def run_phase(self):
        self.raise_objection()
        cocotb.start_soon(Clock(cocotb.top.clk, 10, unit="ns").start())
        await self.sequence().start(self.environment.csr.sequencer)
        self.drop_objection()


@pyuvm.test()
class RandomProgramsTest(BaseTest):
    """Random programs; bit-exact, and all their coverage bins hit."""

    def sequence(self):
        return RandomPrograms("random", int(os.environ.get("HEDDLE_BENCH_RUNS", "12")))

    def check_phase(self):
        holes = [hole for hole in self.environment.coverage.coverage.holes() if not hole.startswith("end")]
        cocotb.log.info("\n" + self.environment.coverage.coverage.report())
        assert not holes, "coverage goals missed: " + "; ".join(holes)


@pyuvm.test()
class FaultyProgramsTest(BaseTest):
    """Each error cause, reported at the right instruction, and a clean run after it."""

    def sequence(self):
        return FaultyPrograms("faulty")

    def check_phase(self):
        holes = [hole for hole in self.environment.coverage.coverage.holes() if hole.startswith("end")]
        assert not holes, "error causes never seen: " + "; ".join(holes)


@pyuvm.test(expect_fail=True)
class BrokenPredictionTest(BaseTest):
    """The expect-fail twin: with one predicted bit wrong, the scoreboard must fail."""

    def build_phase(self):
        uvm_factory().set_type_override_by_type(Scoreboard, BrokenScoreboard)
        super().build_phase()

    def final_phase(self):
        uvm_factory().clear_overrides()
