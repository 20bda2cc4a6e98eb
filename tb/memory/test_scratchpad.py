# amaranth: UnusedElaboratable=no
"""The scratchpad: data, priority, and full bandwidth when clients use different banks."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.memory.scratchpad import Scratchpad
from tb.sim import simulate

CONFIGS = {
    "banks8": AcceleratorConfig(scratchpad_bytes=1024, scratchpad_banks=8),
    "banks2-b64": AcceleratorConfig(bus_width=64, scratchpad_bytes=1024, scratchpad_banks=2),
    "one-bank": AcceleratorConfig(scratchpad_bytes=1024, scratchpad_banks=1),
    "wide": AcceleratorConfig(rows=20, scratchpad_bytes=4096, scratchpad_banks=4),
    "parity": AcceleratorConfig(scratchpad_bytes=1024, scratchpad_banks=4, protection=(("scratchpad", "parity"),)),
    "secded": AcceleratorConfig(scratchpad_bytes=1024, scratchpad_banks=4, protection=(("scratchpad", "secded"),)),
}


def fills_in_part(mask: int, size: int) -> bool:
    """Return whether a write with this mask fills a word of four bytes in part."""
    return any(mask >> first & 15 not in (0, 15) for first in range(0, size, 4))


@pytest.mark.parametrize("busy", [0.3, 1.0])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_traffic(name: str, busy: float) -> None:
    config, rng = CONFIGS[name], random.Random(f"{name} {busy}")
    dut = Scratchpad(config, readers=4, writers=2)
    lines, size, bank_lines = config.scratchpad_lines, config.line_bytes, config.scratchpad_lines // config.scratchpad_banks
    model = np.zeros((lines, size), np.uint8)
    seen: Counter[str] = Counter()

    async def traffic(ctx: Any) -> None:
        expected: dict[int, bytes] = {}                         # reader → the data that it must see now
        for _ in range(400):
            # In half of the cycles few lines, so that ports meet in a bank and reads meet writes.
            some = [rng.randrange(lines) for _ in range(rng.choice((2, 8)))]
            reads = {i: rng.choice(some) for i in range(4) if rng.random() < busy}
            masks = (rng.getrandbits(size), sum(rng.choice((0, 15)) << first for first in range(0, size, 4)))
            writes = {i: (rng.choice(some), rng.randbytes(size), rng.choice(masks)) for i in range(2) if rng.random() < busy}
            for i, port in enumerate(dut.readers):
                ctx.set(port.valid, i in reads)
                ctx.set(port.addr, reads.get(i, rng.randrange(lines)))
            for i, port in enumerate(dut.writers):
                addr, data, mask = writes.get(i, (rng.randrange(lines), rng.randbytes(size), (1 << size) - 1))
                ctx.set(port.valid, i in writes)
                ctx.set(port.addr, addr)
                ctx.set(port.data, int.from_bytes(data, "little"))
                ctx.set(port.mask, mask)

            for i, want in expected.items():
                assert ctx.get(dut.readers[i].data).to_bytes(size, "little") == want, f"reader {i}"
            expected, taken_banks, merging_banks, written_banks = {}, set(), set(), set()
            for _, (addr, _, mask) in sorted(writes.items()):
                if addr // bank_lines not in written_banks and fills_in_part(mask, size) and name == "secded":
                    merging_banks.add(addr // bank_lines)
                written_banks.add(addr // bank_lines)
            for i, addr in sorted(reads.items()):
                granted = addr // bank_lines not in taken_banks | merging_banks
                seen["read while merging"] += addr // bank_lines in merging_banks
                taken_banks.add(addr // bank_lines)
                assert ctx.get(dut.readers[i].ready) == granted
                seen["read" if granted else "read refused"] += 1
                if granted:
                    expected[i] = model[addr].tobytes()
                    seen["read while written"] += any(addr == written for written, _, _ in writes.values())
            seen["four reads"] += len(expected) == 4
            taken_banks = set()
            for i, (addr, data, mask) in sorted(writes.items()):
                granted = addr // bank_lines not in taken_banks
                taken_banks.add(addr // bank_lines)
                assert ctx.get(dut.writers[i].ready) == granted
                seen["write" if granted else "write refused"] += 1
                for byte in range(size):
                    if granted and mask >> byte & 1:
                        model[addr, byte] = data[byte]
            await ctx.tick()

    simulate(dut, traffic, seed=0)
    assert seen["read while written"] > 5
    assert seen["read while merging"] > 5 or name != "secded"
    assert seen["read refused"] > 5
    assert seen["write refused"] > 5
    assert seen["four reads"] > 5 or busy < 1 or config.scratchpad_banks < 4 or name == "secded"


@pytest.mark.parametrize(("ports", "text"), [
    ({"readers": 0}, r"^Scratchpad\.readers must be at least 1, not 0$"),
    ({"writers": -1}, r"^Scratchpad\.writers must be at least 1, not -1$"),
])
def test_bad_ports(ports: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Scratchpad(AcceleratorConfig(), **ports)
