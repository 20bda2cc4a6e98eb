"""cocotb bench of one pseudo-channel of a PIM: a GEMM from timing-checked DRAM, with refreshes and without."""

import itertools
import os

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from hw.pim.channel import channel_job_layout, dram_phases
from hw.pim.config import PimConfig
from hw.pim.timing_tables import DramCommand
from sw.pim.dram import DramChannel
from tb.pim.dram_port import COLUMN_MEMBERS, ROW_MEMBERS, DramModel

CONFIG = PimConfig.from_json(os.environ["HEDDLE_BENCH_CONFIG"])
ROWS = int(os.environ.get("HEDDLE_BENCH_ROWS", "24"))
PER_ROW = 4                                                     # outputs of a DRAM row


class TB:
    """The channel with its DRAM."""

    def __init__(self, dut, *, refresh: bool):
        self.dut = dut
        self.model = DramModel(DramChannel(CONFIG.dram, interval=CONFIG.interval, rows=CONFIG.dram_rows, refresh=refresh),
                               streams=CONFIG.streams, phases=dram_phases(CONFIG))
        for name in ("rst", "job__valid", "x__valid", "bias__valid", "write__valid", "hold", "dram__rvalid", "entry"):
            getattr(dut, name).value = 0
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())

    async def start(self) -> None:
        """Reset, then let the DRAM serve."""
        self.dut.rst.value = 1
        for _ in range(3):
            await RisingEdge(self.dut.clk)
        await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0
        cocotb.start_soon(self.serve())

    async def serve(self) -> None:
        """Step the model once a cycle, between the edges."""
        while True:
            await FallingEdge(self.dut.clk)
            row, column = ([int(getattr(self.dut, f"dram__{name}").value) for name in names]
                           for names in (ROW_MEMBERS, COLUMN_MEMBERS))
            burst = self.model.step(row, column)
            await RisingEdge(self.dut.clk)
            self.dut.dram__rvalid.value = burst is not None
            if burst is not None:
                self.dut.dram__rdata.value = burst

    async def x(self, codes) -> None:
        """Put (rows, n) bytes into the X buffer."""
        for row, values in enumerate(codes):
            for index, part in enumerate(values.reshape(-1, CONFIG.lanes)):
                self.dut.x__slice.value = index
                if CONFIG.rows_x > 1:                           # with one row the port has no bits
                    self.dut.x__row.value = row
                self.dut.x__data.value = int.from_bytes(part.tobytes(), "little")
                self.dut.x__valid.value = 1
                await FallingEdge(self.dut.clk)
        self.dut.x__valid.value = 0

    async def job(self, **fields) -> None:
        """Offer a job until it is taken."""
        self.dut.job__payload.value = channel_job_layout(CONFIG).const(fields).as_bits()
        self.dut.job__valid.value = 1
        while True:
            await RisingEdge(self.dut.clk)
            taken = int(self.dut.job__ready.value)
            await FallingEdge(self.dut.clk)
            if taken:
                break
        self.dut.job__valid.value = 0

    async def gemm(self, seed: int) -> list[int]:
        """Multiply whole rows of two sets in turn with X; return when bursts were read."""
        rng = np.random.default_rng(seed)
        k = CONFIG.row_bytes // PER_ROW
        weights = rng.integers(-128, 128, (ROWS * PER_ROW, k), dtype=np.int8)
        x = rng.integers(-128, 128, (CONFIG.rows_x, k), dtype=np.int8)
        for row, part in enumerate(weights.view(np.uint8).reshape(ROWS, CONFIG.dram.columns, -1)):
            for column, burst in enumerate(part):
                self.model.fill(row % 2, row // 2, column, burst)
        await self.x(x.view(np.uint8))
        bursts = CONFIG.dram.columns
        for row in range(ROWS):
            await self.job(row={"set": row % 2, "row": row // 2, "column": 0, "bursts": bursts - 1, "write": 0},
                           mac={"bursts": bursts - 1, "period": bursts * CONFIG.beats // PER_ROW - 1, "entry": row * PER_ROW,
                                "clr": 1, "last": 1})
        while not int(self.dut.idle.value):
            await FallingEdge(self.dut.clk)
        expected = weights.astype(np.int64) @ x.T.astype(np.int64)
        for entry, row in enumerate(expected):
            self.dut.entry.value = entry
            await FallingEdge(self.dut.clk)
            await FallingEdge(self.dut.clk)
            word = int(self.dut.o.value)
            found = [np.uint32(word >> 32 * index & 0xFFFFFFFF).view(np.int32) for index in range(CONFIG.rows_x)]
            assert found == row.tolist(), entry
        assert not int(self.dut.range_error.value)
        return self.model.times(DramCommand.MAC)


@cocotb.test()
async def a_gemm_takes_the_cycles_of_its_weights(dut):
    tb = TB(dut, refresh=False)
    await tb.start()
    reads = await tb.gemm(1)
    before_refresh = [at for at in reads if at < CONFIG.dram.refi]
    assert {later - earlier for earlier, later in itertools.pairwise(before_refresh)} == {CONFIG.interval}
    assert len(before_refresh) > 500


@cocotb.test()
async def a_gemm_is_refreshed_in_time(dut):
    tb = TB(dut, refresh=True)
    await tb.start()
    await tb.gemm(2)
    assert tb.model.dram.violations.total() == 0
