// Runs faults through a design, a vector of them at a time, in one sweep over the run without faults.
#include "lanes_machine.h"
#include <deque>
#include <tuple>

using Groups = std::vector<std::pair<u32, u32>>;      // first cycle, first place in the order of faults

struct Handle {
    explicit Handle(const Tables& tables) : tables(tables), golden(this->tables), trace(record(golden)), stepper(golden, trace) {}

    // One vector after the other, beside the kept run.
    void each(const Groups& groups, const std::vector<u32>& order) {
        Vector v(0);
        for (auto [first, at] : groups) {
            stepper.begin(v, order.data() + at, (u32)std::min<size_t>(LANES, order.size() - at));
            for (u32 now = first; now != NONE; now = stepper.step(v)) golden.show(now, trace.rows.data() + (size_t)now * tables.words);
        }
    }

    // As many vectors at once as the processor keeps at hand, cycle by cycle.
    void sweeps(const Groups& groups, const std::vector<u32>& order) {
        constexpr size_t AT_ONCE = 64;
        for (size_t at = 0; at < groups.size(); at += AT_ONCE) {
            Groups some(groups.begin() + (i64)at, groups.begin() + (i64)std::min(groups.size(), at + AT_ONCE));
            std::sort(some.begin(), some.end());
            sweep(some, order);
        }
    }

    void sweep(const Groups& groups, const std::vector<u32>& order) {
        std::deque<Vector> pool;
        std::vector<Vector*> idle, awake, next;
        std::vector<std::vector<Vector*>> asleep(trace.deadline + 1);
        size_t begun = 0, busy = 0;
        golden.restart();
        while (begun < groups.size() || busy) {
            const u32 now = golden.cycle;
            golden.settle([](u32) {});
            for (; begun < groups.size() && groups[begun].first == now; begun++, busy++) {
                if (idle.empty()) idle.push_back(&pool.emplace_back(tables.memories));
                Vector* v = idle.back();
                idle.pop_back();
                stepper.begin(*v, order.data() + groups[begun].second, (u32)std::min<size_t>(LANES, order.size() - groups[begun].second));
                awake.push_back(v);
            }
            awake.insert(awake.end(), asleep[now].begin(), asleep[now].end());
            std::vector<Vector*>().swap(asleep[now]);
            next.clear();
            for (Vector* v : awake) {
                const u32 wakes = stepper.step(*v);
                if (wakes == now + 1) next.push_back(v);
                else if (wakes != NONE) asleep[wakes].push_back(v);
                else {
                    idle.push_back(v);
                    busy--;
                }
            }
            awake.swap(next);
            golden.edge();
        }
    }

    Tables tables;
    Golden golden;
    Trace trace;
    Stepper stepper;
};

// Faults near each other in time and place share a vector: sites are in the order of the hierarchy.
static std::vector<u32> arranged(const Fault* faults, size_t n, u32 cycles) {
    constexpr u64 TOGETHER = 4096;
    const u64 window = std::max<u64>(1, TOGETHER * cycles / std::max<size_t>(1, n));
    std::vector<u32> order(n);
    for (size_t i = 0; i < n; i++) order[i] = (u32)i;
    std::sort(order.begin(), order.end(), [&](u32 a, u32 b) {
        const Fault &x = faults[a], &y = faults[b];
        return std::make_tuple(x.cycle / window, x.site, x.cycle, a) < std::make_tuple(y.cycle / window, y.site, y.cycle, b);
    });
    return order;
}

#pragma GCC visibility push(default)
extern "C" {

void* fi_create(const Tables* tables) { return new Handle(*tables); }
void fi_destroy(void* handle) { delete static_cast<Handle*>(handle); }
u32 fi_cycles(void* handle) { return static_cast<Handle*>(handle)->trace.cycles; }
u32 fi_deadline(void* handle) { return static_cast<Handle*>(handle)->trace.deadline; }
u32 fi_flagged(void* handle) { return static_cast<Handle*>(handle)->trace.flagged; }
u32 fi_violated(void* handle) { return static_cast<Handle*>(handle)->trace.violated; }
u32 fi_lanes() { return LANES; }

void fi_run(void* handle, const Fault* faults, size_t n, Outcome* outcomes, u32 flags) {
    Handle& h = *static_cast<Handle*>(handle);
    h.stepper.faults = faults;
    h.stepper.outcomes = outcomes;
    h.stepper.flags = flags;
    h.stepper.corruptions.clear();
    const std::vector<u32> order = arranged(faults, n, h.trace.cycles);
    Groups groups;
    for (u32 at = 0; at < n; at += LANES) {
        u32 first = NONE;
        for (size_t i = at; i < std::min<size_t>(n, at + LANES); i++) first = std::min(first, faults[order[i]].cycle);
        groups.push_back({first, at});
    }
    if (h.trace.rows.empty()) h.sweeps(groups, order);
    else h.each(groups, order);
}

size_t fi_corruptions(void* handle, const Corruption** found) {
    Handle& h = *static_cast<Handle*>(handle);
    *found = h.stepper.corruptions.data();
    return h.stepper.corruptions.size();
}

// When each address of a memory is read and written in the run without faults: rows of cycle << 2 | access.
void fi_accesses(void* handle, u32 memory, const u32** start, const u32** items) {
    Handle& h = *static_cast<Handle*>(handle);
    *start = h.trace.word_start.data() + h.trace.first_address[memory];
    *items = h.trace.word_accesses.data();
}
}
#pragma GCC visibility pop
