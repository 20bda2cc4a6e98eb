"""What the engine does in a linear: weights come, through a ring in the scratchpad or past it, and are multiplied."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hybrid import MODE_STREAM
from hw.isa import Dataflow, Unit
from sw.kernels.passes.command import Int8, Operand
from sw.kernels.passes.norms import no_statistics
from sw.kernels.tiles import Extent
from sw.kernels.transformer.areas import Area
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear_shape import WEIGHT_SLOTS, Linear
from sw.kernels.transformer.places import Address, Place, Scratchpad
from sw.kernels.transformer.semaphores import Semaphore
from sw.layout import round_up

__all__ = ["LinearProducts"]


class LinearProducts:
    """The products of a linear, tile by tile of its columns; see `emit_linear` for the parameters."""

    def __init__(self, config: AcceleratorConfig, emitter: StreamEmitter, linear: Linear, areas: dict[str, Area], rows: Operand,
                 operand: Operand, operand_stride: int, weights: Address, row_scale: int, output: Place,
                 statistics: Mapping[str, int], span: tuple[int, int], make_operand: Callable[[], None] | None,
                 make_row_scale: Callable[[], None] | None, meanwhile: Callable[[], None] | None):
        self.config, self.emitter, self.linear, self.areas, self.statistics = config, emitter, linear, areas, statistics
        self.stays = isinstance(output, Scratchpad)
        self.sums = "" if self.stays else next(
            (name for name in ("squares", "total") if linear.residual and name in self.statistics), "")
        self.rows, self.operand, self.operand_stride = rows, operand, operand_stride
        self.weights, self.row_scale, self.output = weights, row_scale, output
        self.make_operand = make_operand
        forget = self._no_statistics if statistics and emitter.overlapping else None
        self.first_work = [work for work in (make_row_scale, meanwhile, forget) if work]
        layout, (self.first_column, count) = linear.layout, span
        self.columns = Extent(dim="n", total=count, tile=linear.tile_n)
        self.groups = Extent(dim="n", total=ceil_div(count, layout.columns), tile=linear.tile_n // layout.columns)
        self.steps = Extent(dim="k", total=linear.k, tile=linear.chunk_k)
        self.step_bytes = Extent(dim="k", total=layout.bytes_of(linear.k), tile=layout.bytes_of(linear.chunk_k))
        self.group_bytes = Extent(dim="n", total=self.groups.total * layout.group_stride,
                                  tile=self.groups.tile * layout.group_stride)
        self.streams = linear.m == 1 and layout.mode > 0 and config.weight_stream
        self.scale_bytes = Extent(dim="n", total=4 * count if emitter.overlapping else 4 * round_up(count, linear.tile_n),
                                  tile=4 * linear.tile_n)
        self.walked = [self.columns, self.group_bytes if self.streams else self.groups,     # from tile to tile
                       *dict.fromkeys((self.scale_bytes, *self._stored))]
        self.acc_stride = linear.m
        self.acc_slot = config.accumulator_rows // 2
        self.chunks = self.steps.count
        self.ahead = min(self.chunks, WEIGHT_SLOTS) if emitter.overlapping else 1       # chunks loaded before the first is used

    def _ring(self, name: str) -> None:
        area = self.areas[name]
        self.emitter.ring(self.emitter.reg(f"{name} slot"), area.slot_bytes, area.slots)

    def _slot(self, name: str, offset: int = 0) -> Operand:
        area = self.areas[name]
        return (self.emitter.reg(f"{name} slot"), area.addr + offset) if area.slots > 1 else area.addr + offset

    @contextmanager
    def _first_tile(self) -> Iterator[None]:
        """Do the body of a `with` statement in the first tile only."""
        emitter = self.emitter
        with emitter.loop(1 if self.columns.count == 1 else emitter.reg("first")):
            yield

    def _make_operand(self) -> None:
        """Make the operand, behind the loads that do not need it."""
        if self.make_operand:
            with self._first_tile():
                self.make_operand()

    def _before_results(self) -> None:
        """Do what the first results wait for; only then forget the statistics of another linear, which made the operand."""
        if self.first_work:
            with self._first_tile():
                for work in self.first_work:
                    work()

    def _wait(self) -> None:
        """Wait for the operand."""
        asm = self.emitter.asm
        if self.make_operand and self.columns.count > 1:
            with asm.loop(self.emitter.reg("first")):
                asm.wait(Semaphore.READY)
        elif self.make_operand:
            asm.wait(Semaphore.READY)

    def _no_statistics(self) -> None:
        unused = self.output.addr if isinstance(self.output, Scratchpad) else self.areas["out"].addr
        self.emitter.passes(no_statistics(self.rows, Int8(unused), amax=self.statistics.get("magnitude"),
                                          sums=self.statistics[self.sums] if self.sums else None))

    def _load_chunk(self) -> None:
        """Load a chunk of weights."""
        emitter, linear = self.emitter, self.linear
        emitter.set("load.dram_addr", emitter.reg("chunk"))
        emitter.set("load.dram_stride", linear.layout.group_stride)
        emitter.put_extent("load.rows", self.groups)
        emitter.put_extent("load.row_bytes", self.step_bytes)
        emitter.command(Unit.LOAD, {"addr": self._slot("weights"), "stride": self.step_bytes.tile, "transpose": 0},
                        [Semaphore.WEIGHTS_FREE], [Semaphore.WEIGHTS_FULL])
        self._ring("weights")
        if self.chunks > 1:
            emitter.move(emitter.reg("chunk"), emitter.reg("chunk"), self.step_bytes.tile)
            emitter.advance([self.step_bytes])

    def _multiply_chunk(self, *, first: bool, last: bool) -> None:
        """Multiply by a chunk of weights."""
        emitter, linear, config, weights = self.emitter, self.linear, self.config, self.areas["weights"]
        self._describe(self.steps, {"activation_addr": (emitter.reg("operand"), 0),
                                    "weight_addr": (emitter.reg("read slot"), weights.addr),
                                    "weight_tile_stride": self.step_bytes.tile, "accumulate": int(not first),
                                    "mode": linear.layout.mode})
        if first:
            self._wait()
        emitter.asm.go(Unit.MATRIX, [Semaphore.WEIGHTS_FULL, *([Semaphore.ACC_FREE] if first else [])],
                       [Semaphore.WEIGHTS_FREE, *([Semaphore.ACC_FULL] if last else [])])
        emitter.ring(emitter.reg("read slot"), weights.slot_bytes, weights.slots)
        if not last:
            emitter.move(emitter.reg("operand"), emitter.reg("operand"),
                         linear.chunk_k // config.rows * config.activation_slot_bytes)
            emitter.advance([self.steps])

    def _stream(self) -> None:
        """Let all weights of a tile go from DRAM into the engine, whose command waits for nothing but room for its results.

        That command follows at once: what the engine does not take holds the bus, and behind it come instructions.
        """
        emitter, linear = self.emitter, self.linear
        self._make_operand()
        self._describe(Extent(dim="", total=linear.k, tile=linear.k), {
            "activation_addr": self.operand, "weight_addr": 0, "weight_tile_stride": 0, "accumulate": 0,
            "mode": linear.layout.mode | MODE_STREAM})
        emitter.put_extent("load.row_bytes", self.group_bytes)
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("tile"), "dram_stride": 0, "rows": 1, "addr": 0, "stride": 0,
                                    "transpose": 0, "stream": 1})
        self._wait()
        emitter.asm.go(Unit.MATRIX, [Semaphore.ACC_FREE], [Semaphore.ACC_FULL])
        emitter.set("load.stream", 0)

    def _describe(self, k: Extent, fields: dict[str, Operand]) -> None:
        """Describe a product by `k` inputs of the weights."""
        emitter = self.emitter
        emitter.put_extent("matrix.n", self.columns)
        emitter.put_extent("matrix.k", k)
        emitter.describe(Unit.MATRIX, {
            **fields, "activation_stride": self.operand_stride, "activation_tile_stride": self.config.activation_slot_bytes,
            "weight_stride": self.linear.layout.weight_stride, "acc_addr": emitter.reg("acc slot"),
            "acc_tile_stride": self.acc_stride, "m": self.rows, "dataflow": int(Dataflow.WS), "serialize": 0})

    def _repeat(self, count: int, *commands: Callable[[], None]) -> None:
        """Emit commands `count` times."""
        if count > 0:
            with self.emitter.loop(count):
                for command in commands:
                    command()

    def _chunks(self) -> None:
        """Multiply by the weights of a tile, a chunk after the other, through the scratchpad."""
        emitter = self.emitter

        def middle() -> None:
            self._multiply_chunk(first=False, last=False)

        emitter.move(emitter.reg("chunk"), emitter.reg("tile"))
        emitter.set_register("operand", self.operand)
        emitter.start([self.steps, self.step_bytes])
        self._repeat(self.ahead, self._load_chunk)
        self._make_operand()
        self._multiply_chunk(first=True, last=self.chunks == 1)
        if self.chunks == 1:
            return
        left = self.chunks - self.ahead                 # loads
        if self.ahead == 1:
            self._repeat(left - 1, self._load_chunk, middle)
            self._load_chunk()
        else:
            self._repeat(left, self._load_chunk, middle)
            self._repeat(self.ahead - 2, middle)
        self._multiply_chunk(first=False, last=True)

    @property
    def _once(self) -> bool:
        """Something is done in the first of several tiles only."""
        return self.columns.count > 1 and bool(self.make_operand or self.first_work)

    @property
    def _stored(self) -> list[Extent]:
        """Bytes of a stored row."""
        if self.linear.gated or self.stays:
            return []
        return [Extent(dim="n", total=4 * self.linear.n, tile=4 * self.linear.tile_n)]
