// Records the run without faults.
#include "lanes_golden.h"

static constexpr u64 ROWS = 1u << 26;       // most words that are kept

// The items of (row, number) pairs as rows, in the order in which they came.
static void gather(const std::vector<std::pair<u32, u32>>& pairs, u32 rows, std::vector<u32>& start, std::vector<u32>& items) {
    start.assign(rows + 1, 0);
    for (auto [row, number] : pairs) start[row + 1]++;
    for (u32 row = 0; row < rows; row++) start[row + 1] += start[row];
    items.resize(pairs.size());
    std::vector<u32> at(start.begin(), start.end() - 1);
    for (auto [row, number] : pairs) items[at[row]++] = number;
}

Trace record(Golden& golden) {
    const Tables& t = golden.t;
    Trace trace;
    const bool keep = !t.memories && (u64)t.words * t.limit <= ROWS;
    u32 addresses = 0;
    for (u32 m = 0; m < t.memories; m++) {
        trace.first_address.push_back(addresses);
        addresses += t.memory[m].depth;
    }
    std::vector<std::pair<u32, u32>> units, words;
    trace.deadline = t.limit;
    golden.restart();
    while (golden.cycle < trace.deadline) {
        const u32 now = golden.cycle;
        golden.settle([&](u32 unit) { units.push_back({unit, now}); });
        if (keep) trace.rows.insert(trace.rows.end(), golden.value, golden.value + t.words);
        for (u32 k = 0; k < t.reads; k++) {
            const ReadTable& r = t.read[k];
            const u32 address = golden.value[r.address];
            if (address < t.memory[r.memory].depth && (r.enable == NONE || golden.value[r.enable]))
                words.push_back({trace.address_of(r.memory, address), now << 2 | Trace::READ});
        }
        for (u32 k : golden.firing) {
            const WriteTable& w = t.write[k];
            bool whole = true;
            for (u32 c = 0; c < t.memory[w.memory].chunks; c++) {
                const u32 mask = golden.value[w.data.begin(1)[c]];
                whole &= mask == (c + 1 == t.memory[w.memory].chunks ? t.memory[w.memory].last_mask : 0xFFFFFFFFu);
            }
            words.push_back({trace.address_of(w.memory, golden.value[w.address]),
                             now << 2 | (whole ? Trace::OVERWRITTEN : Trace::PARTLY_WRITTEN)});
        }
        const auto high = [&](u32 word) { return word != NONE && golden.value[word]; };
        if (!trace.cycles) {
            trace.flagged |= high(t.detected) || high(t.corrected);
            trace.violated |= high(t.violation);
        }
        if (!trace.cycles && (t.done == NONE ? now + 1 == t.cycles : golden.value[t.done] != 0)) {
            trace.cycles = now + 1;
            trace.final = golden.memory;
            if (t.done == NONE) break;
            trace.deadline = std::min((u64)t.limit, 2 * (u64)trace.cycles + t.watchdog);
        }
        golden.edge();
    }
    gather(units, t.units, trace.unit_start, trace.unit_cycles);
    gather(words, addresses, trace.word_start, trace.word_accesses);
    return trace;
}
