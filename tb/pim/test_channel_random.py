"""A channel under random jobs with refreshes between: every entry of the output buffer and every slice of X, in order."""

import dataclasses
import random

import numpy as np
import pytest

from tb.pim.test_channel import BYTES, Channel

LIMIT = 1 << 31


class Model:
    """What jobs do, one after the other, in 8-bit integers."""

    def __init__(self, config, x):
        self.config, self.x = config, x                         # (rows, slices·lanes)
        self.obuf = np.zeros((config.obuf_entries, config.lanes, config.rows_x), np.int64)

    def run(self, mac, bursts):
        """Run a job whose bursts are (n, weights) int8."""
        lanes = self.config.lanes
        beats = bursts.astype(np.int64).reshape(-1, lanes)
        if mac.get("copy"):
            start = mac["x"] * lanes
            self.x[:, start:start + beats.size] = beats.reshape(-1)
            return
        period = mac["period"] + 1
        for first in range(0, len(beats), period):
            part = beats[first:first + period]
            turn = first // period
            if mac["bcast"]:
                added = part[:, :, None] * self.x[:, mac["x"] + turn]
                entries = slice(mac["entry"], mac["entry"] + len(part))
                self._put(entries, added, fresh=mac["clr"] and not turn, lanes=slice(None))
            else:
                start = mac["x"] * lanes
                row = part.reshape(-1)
                added = self.x[:, start:start + len(row)] @ row
                self._put(mac["entry"] + turn, added, fresh=mac["clr"], lanes=0)

    def _put(self, entries, added, *, fresh, lanes):
        old = 0 if fresh else self.obuf[entries, lanes]
        self.obuf[entries, lanes] = old + added
        assert (abs(self.obuf) < LIMIT).all()                   # where nothing is clipped, order does not matter


@pytest.mark.parametrize("seed", range(2))
def test_random_jobs(seed):
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    config = dataclasses.replace(BYTES, refresh=rng.choice(["all-bank", "same-bank"]))
    channel = Channel(config)
    columns, lanes, wide = config.dram.columns, config.lanes, channel.dut._compute.wide
    memory = {}
    x = noise.integers(-128, 128, (config.rows_x, config.xbuf_entries * lanes), dtype=np.int8)
    channel.x(x.view(np.uint8))
    model = Model(config, x.astype(np.int64))
    written = set()
    kinds = set()
    while len(channel.jobs) < 40:
        place = rng.randrange(3), rng.randrange(2)
        if place not in memory:
            memory[place] = noise.integers(-128, 128, (columns, config.burst_bytes * config.streams), dtype=np.int8)
            channel.fill((*place, 0), memory[place])
        bcast, copy = rng.random() < 0.4, rng.random() < 0.15
        period = rng.randrange(1, 1 + min(9, config.bcast_entries) if bcast else 18)
        bursts = period * rng.randrange(1, 3 if period > 4 else 5) if bcast else rng.randrange(1, 17)
        beats = bursts * config.beats
        column = rng.randrange(columns - bursts + 1)
        mac = {"bcast": int(bcast and not copy), "period": period - 1, "clr": int(rng.random() < 0.5), "copy": int(copy)}
        if copy:
            mac["x"] = rng.randrange(config.xbuf_entries - beats + 1) if beats <= config.xbuf_entries else 0
            if beats > config.xbuf_entries:
                continue
        elif bcast:
            mac["x"] = rng.randrange(config.xbuf_entries * lanes - beats // period)
            mac["entry"] = rng.randrange(wide - period + 1)
            touched = set(range(mac["entry"], mac["entry"] + min(beats, period)))
            lanes_touched = {(entry, lane) for entry in touched for lane in (0, 1)}
        else:
            mac["x"] = rng.randrange(config.xbuf_entries - period + 1)
            outputs = -(-beats // period)
            mac["entry"] = rng.randrange(config.obuf_entries - outputs + 1)
            lanes_touched = {(entry, 0) for entry in range(mac["entry"], mac["entry"] + outputs)}
        if not copy:
            if not lanes_touched <= written:                    # nothing is added to what nobody has written
                mac["clr"] = 1
            written |= lanes_touched
        channel.job((*place, column), bursts, **mac)
        model.run({"bcast": 0, **mac}, memory[place][column:column + bursts])
        kinds.add((mac["bcast"], mac["clr"], mac["copy"]))
    found = channel.run(config.obuf_entries, seed=seed).view(np.int32)
    for entry, lane in sorted(written):
        assert (found[entry, lane] == model.obuf[entry, lane]).all(), (entry, lane)
    for entry in {entry for entry, lane in written if lane}:
        assert (found[entry] == model.obuf[entry]).all()
    assert len(kinds) >= 5
    assert channel.counts["done"] + channel.counts["copied"] == len(channel.jobs)
