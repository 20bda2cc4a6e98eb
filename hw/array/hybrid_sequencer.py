"""Cuts matrix commands of the hybrid engine into tiles, and tells the weight reader what they need."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from hw.array.commands import cutter_members, misaligned, packed_rules, refuse
from hw.array.hybrid_tile import hybrid_tile_layout, largest_passes, weight_job_layout
from hw.array.tile import advance
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.hybrid import MODE_FORMAT, MODE_MESH, MODE_STREAM, PASS_ROWS, block_shapes, element_beats
from hw.isa import ErrorCause, Unit
from hw.ports import descriptor_layout

__all__ = ["HybridSequencer"]


class HybridSequencer(wiring.Component):
    """Checks a command and gives its tiles in order: n-group → block of K → piece of `PASS_ROWS` tokens → pass.

    A plain command is one piece, and its blocks are tiles. The first tile comes `latency` cycles after the command was taken,
    then one a cycle; the next command is taken in the cycle after the last tile at the earliest.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of commands), o : Out(stream of hybrid_tile_layout), job : Out(stream of weight_job_layout)
    fault : Out(1), report : Out(ErrorReport)
        Level: the command taken last is wrong; nothing more comes until reset.
    busy : Out(1)
        A command is being cut.
    blocks_padded : Out(0 to columns)
        Blocks, one for each output, whose last tile is given in this cycle and which K does not fill.
    """

    latency = 2

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.shapes = block_shapes(config)
        super().__init__({
            **cutter_members(hybrid_tile_layout(config)), "job": Out(stream.Signature(weight_job_layout(config))),
            "blocks_padded": Out(range(config.columns + 1)),
        })

    def _of_mode(self, mode: Value, plain: int, packed: list[int]) -> Value:
        """Return what belongs to the command's mode."""
        return Array([plain, *packed])[mode]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, size = self.config, self.config.rows
        tile = self.o.p
        command = Signal(descriptor_layout(Unit.MATRIX))
        mode = Signal(range(len(self.shapes) + 1))
        packed, streamed, clusters = Signal(name="is_packed"), Signal(), Signal()
        passes = Signal(range(largest_passes(config) + 1))
        m.d.comb += [
            mode.eq(command.mode),
            packed.eq((command.mode & MODE_FORMAT) != 0),
            streamed.eq((command.mode & MODE_STREAM) != 0),
            clusters.eq(packed & (command.m == 1) & ((command.mode & MODE_MESH) == 0)),
            passes.eq(self._of_mode(mode, 1, [shape.passes for shape in self.shapes])),
        ]

        first = Signal()                                # of the blocks that add up to the same results
        bank = Signal()
        columns_left = Signal.like(command.n)
        k_left = Signal.like(command.k)                 # from this block on
        pass_k_left = Signal.like(command.k)            # from this pass on; 0 in what only pads the block
        tokens_left = Signal.like(command.m)            # from this piece on
        passes_left = Signal.like(passes)
        block_addr, piece_addr, pass_addr, weight_addr = (
            Signal(tile["activation_addr"].shape(), name=f"{name}_addr") for name in ("block", "piece", "pass", "weight"))
        group_acc, acc_addr = (Signal(tile["acc_addr"].shape(), name=name) for name in ("group_acc", "acc_addr"))
        block = self._of_mode(mode, size, [shape.block for shape in self.shapes])

        whole = Signal()                                # all tokens are one piece
        last_pass, last_piece, last_block, last_columns = (
            Signal(name=f"last_{name}") for name in ("pass", "piece", "block", "columns"))
        m.d.comb += [
            whole.eq(passes == 1),
            last_pass.eq(passes_left == 1),
            last_piece.eq(whole | (tokens_left <= PASS_ROWS)),
            last_block.eq(k_left <= block),
            last_columns.eq(columns_left <= config.columns),
            tile.packed.eq(packed),
            tile.shifts.eq(self._of_mode(mode, 0, [int(shape.shifts) for shape in self.shapes])),
            tile.clusters.eq(clusters),
            tile.first_pass.eq(passes_left == passes),
            tile.last_pass.eq(last_pass),
            tile.block_end.eq(packed & last_pass),
            tile.resume.eq(~first),
            tile.accumulate.eq(command.accumulate | ~first),
            tile.last.eq(last_columns & last_block & last_piece & last_pass),
            tile.bank.eq(bank),
            tile.activation_addr.eq(pass_addr),
            tile.activation_stride.eq(command.activation_stride),
            tile.weight_addr.eq(weight_addr),
            tile.weight_stride.eq(command.weight_stride),
            tile.acc_addr.eq(acc_addr),
            tile.steps.eq(Mux(last_piece, tokens_left, PASS_ROWS)),
            tile.rows.eq(Mux(pass_k_left < size, pass_k_left, size)),
            tile.columns.eq(Mux(last_columns, columns_left, config.columns)),
        ]
        job = self.job.payload
        m.d.comb += [
            job.addr.eq(command.weight_addr),
            job.tile_stride.eq(command.weight_tile_stride),
            job.groups.eq((command.n + config.columns - 1) >> ceil_log2(config.columns)),
            job.blocks.eq((command.k + block - 1) >> self._of_mode(mode, 0, [ceil_log2(shape.block) for shape in self.shapes])),
            job.repeats.eq(Mux(whole, 0, (command.m - 1) >> ceil_log2(PASS_ROWS))),
            job.beats.eq(self._of_mode(mode, 1, [element_beats(config, shape.passes) for shape in self.shapes])),
            job.stream.eq(streamed),
            job.shifts.eq(tile.shifts),
        ]

        def start_pass(addr: Value, left: Value) -> list:
            return [pass_addr.eq(addr), pass_k_left.eq(left), passes_left.eq(passes)]

        def start_piece(addr: Value, left: Value) -> list:
            return [piece_addr.eq(addr), tokens_left.eq(command.m), *start_pass(addr, left)]

        start = Signal(tile["activation_addr"].shape())
        m.d.comb += start.value.eq(command.activation_addr)

        def start_block() -> list:
            return [first.eq(1), k_left.eq(command.k), block_addr.eq(start), *start_piece(start, command.k)]

        with m.FSM(name="sequencer"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(self.i.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += [*start_block(), columns_left.eq(command.n)]
                m.d.sync += [weight_addr.value.eq(command.weight_addr), weight_addr.overflow.eq(0)]
                for address in (group_acc, acc_addr):
                    m.d.sync += [address.value.eq(command.acc_addr), address.overflow.eq(0)]
                legal = Signal()
                m.d.comb += self.job.valid.eq(legal & packed)
                with m.If(self.job.ready | ~packed):
                    m.next = "TILES"
                self._check(m, command, packed, streamed, legal)
            with m.State("TILES"):
                m.d.comb += [self.busy.eq(1), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    with m.If(tile.block_end & last_piece & (k_left < block)):
                        m.d.comb += self.blocks_padded.eq(tile.columns)
                    m.d.sync += [first.eq(0), bank.eq(bank ^ ~clusters)]
                    with m.If(~last_pass):
                        m.d.sync += [
                            passes_left.eq(passes_left - 1),
                            pass_addr.eq(advance(pass_addr, Const(size))),
                            pass_k_left.eq(Mux(pass_k_left < size, 0, pass_k_left - size)),
                            first.eq(first),
                        ]
                    with m.Elif(~last_piece):
                        next_piece = advance(piece_addr, command.activation_stride << ceil_log2(PASS_ROWS))
                        m.d.sync += [
                            tokens_left.eq(tokens_left - PASS_ROWS),
                            acc_addr.eq(advance(acc_addr, Const(PASS_ROWS))),
                            piece_addr.eq(next_piece),
                            first.eq(first),
                            *start_pass(next_piece, k_left),
                        ]
                    with m.Elif(~last_block):
                        next_block = advance(block_addr, block)
                        m.d.sync += [
                            k_left.eq(k_left - block),
                            acc_addr.eq(group_acc),
                            block_addr.eq(next_block),
                            *start_piece(next_block, k_left - block),
                        ]
                    with m.Elif(~last_columns):
                        next_acc = advance(group_acc, command.acc_tile_stride)
                        m.d.sync += [
                            *start_block(),
                            columns_left.eq(columns_left - config.columns),
                            weight_addr.eq(advance(weight_addr, command.weight_tile_stride)),
                            group_acc.eq(next_acc),
                            acc_addr.eq(next_acc),
                        ]
                    with m.Else():
                        m.next = "IDLE"
            with m.State("FAULT"):
                m.d.comb += [self.busy.eq(1), self.fault.eq(1)]
        return m

    def _check(self, m: Module, command: Any, packed: Value, streamed: Value, legal: Value) -> None:
        """Go to FAULT with a report where the command cannot be done; the first rule that is broken is the one reported."""
        config = self.config
        format_index = command.mode & MODE_FORMAT
        in_pieces = Const(0, 1)                         # a stream gives each record once
        if largest_passes(config) > 1:
            in_pieces = (command.m > PASS_ROWS) & (self._of_mode(
                command.mode[:(len(self.shapes)).bit_length()], 0, [int(shape.passes > 1) for shape in self.shapes]) != 0)
        rules = [
            *packed_rules(command),
            ((format_index > len(self.shapes)) | (~packed & (command.mode != 0)) | (streamed & in_pieces),
             ErrorCause.UNSUPPORTED, command.mode),
        ]
        plain_slot, beat = config.weight_slot_bytes - 1, config.beat_bytes - 1
        for name in ("activation_addr", "activation_stride"):
            rules.append(misaligned(command[name], config.activation_slot_bytes))
        for name in ("weight_addr", "weight_stride", "weight_tile_stride"):
            wrong = ~packed & ((command[name] & plain_slot) != 0)
            if name != "weight_stride":
                wrong = wrong | (packed & ~streamed & ((command[name] & beat) != 0))
            rules.append((wrong, ErrorCause.MISALIGNED, command[name]))
        m.d.comb += legal.eq(~Cat(broken for broken, _, _ in rules).any())
        refuse(m, rules, self.report)
