"""A design with every kind of cell, register and memory port that Amaranth makes, small enough to try every flip."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Everything(wiring.Component):
    """Random-looking registers of 40 bits, all operators on them, a memory of 72 bits with partial writes and three reads."""

    def __init__(self):
        super().__init__({"i": In(8), "sums": Out(80), "products": Out(96), "relations": Out(24), "shifts": Out(120),
                          "memories": Out(216), "alarm": Out(1), "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.child = child = Child()
        a = Signal(40, init=0x12_3456_789A)
        b = Signal(40, init=0xF0_1234_5677, reset_less=True)
        count = Signal(6)
        m.d.sync += [a.eq(Cat(a[7:], a[:7]) + self.i), count.eq(count + 1)]
        with m.If(self.i[0] ^ a[3]):
            m.d.sync += b.eq((b << 1) ^ Mux(b[-1], 0x1B, 0))
        with m.Switch(count[:3]):
            with m.Case(1, 2):
                m.d.sync += b[8:16].eq(self.i)
            with m.Case(3):
                m.d.sync += b[30:].eq(a)
            with m.Case(5):
                m.d.sync += b.eq(~a)
        sa, sb = a.as_signed(), b.as_signed()
        m.d.comb += [
            self.sums.eq(Cat((a + b)[:40], (sa - sb)[:40])),
            self.products.eq(Cat((sa[:24].as_signed() * sb[4:28].as_signed())[:48], (a[:24] * b[16:40])[:48])),
            self.relations.eq(Cat(sa < sb, a < b, sa >= sb, a <= b, a[:9] == b[:9], a != b, a.any(), b.all(), a.xor(),
                                  b[:5].all(), ~b.bool(), sa[:8].as_signed() > sb[:9].as_signed(), (-sa)[:10])),
            self.shifts.eq(Cat((a << b[:4])[:40], (a >> b[3:10])[:16], (sb >> a[:6])[:40], (sa[:12].as_signed() >> b[:4])[:8],
                               a.bit_select(b[:6], 9), a.word_select(b[5:7], 5))),
            child.i.eq(a[:8]), self.alarm.eq(child.o), self.done.eq(count == 20),
        ]
        m.submodules.memory = memory = Memory(shape=unsigned(72), depth=5, init=[3 * i << 34 | i for i in range(5)])
        write = memory.write_port(granularity=24)
        plain = memory.read_port(domain="comb")
        slow = memory.read_port()
        through = memory.read_port(transparent_for=(write,))
        m.d.comb += [
            write.addr.eq(b[:3]), write.data.eq(Cat(a, b)), write.en.eq(Mux(count[0], a[10:13], 0)),
            plain.addr.eq(a[2:5]), slow.addr.eq(count[:3]), slow.en.eq(~a[0]), through.addr.eq(b[:3]),
            self.memories.eq(Cat(plain.data, slow.data, through.data)),
        ]
        return m


class Child(wiring.Component):
    """Raises `o` when a counter of odd inputs is full: an instance of its own."""

    def __init__(self):
        super().__init__({"i": In(8), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        odd = Signal(signed(6))
        with m.If(self.i[0]):
            m.d.sync += odd.eq(odd + 1)
        m.d.comb += self.o.eq(odd == -32)
        return m
