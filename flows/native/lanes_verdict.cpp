// What becomes of each lane's fault.
#include "lanes_machine.h"

enum Role : u8 { OBSERVED = 1, FLAG = 2 };

template <class W> static W mix(W x) {
    x ^= x >> 16u;
    x *= 0x7FEB352Du;
    x ^= x >> 15u;
    x *= 0x846CA68Bu;
    return x ^ (x >> 16u);
}

static V distance(V a, V b) { return ((V)((SV)a < (SV)b) & (b - a)) | ((V)((SV)a >= (SV)b) & (a - b)); }

void Stepper::observe(Vector& v) {
    for (u32 w : dense_ ? watch_words_ : touched_) {
        if (role_[w] & OBSERVED) compare(v, w);
        if (!(role_[w] & FLAG)) continue;
        const u32 lanes = nonzero(current(w)) & v.alive;
        Verdicts& is = v.verdicts;
        if (w == t.detected) {
            for (u32 left = lanes & ~is.detected; left; left &= left - 1) is.first_flag[__builtin_ctz(left)] = (i32)golden_.cycle;
            is.detected |= lanes;
        }
        if (w == t.corrected) is.corrected |= lanes;
        if (w == t.violation) is.violation |= lanes;
    }
}

void Stepper::compare(Vector& v, u32 w) {
    const V got = current(w), alive = lanes_of(v.alive);
    const u32 golden = golden_.value[w];
    const V difference = (got ^ golden) & alive;
    const u32 lanes = nonzero(difference);
    if (!lanes) return;
    seen_ = true;
    if (golden_.cycle >= trace_.cycles) return;
    Verdicts& is = v.verdicts;
    for (u32 row : watched_[w]) {
        const ObservedTable& o = t.watch[row];
        if (o.valid != NONE && !golden_.value[o.valid]) continue;
        for (u32 left = lanes; left; left &= left - 1) {
            i32& first = is.first_difference[__builtin_ctz(left)];
            if (first < 0) first = (i32)golden_.cycle;
        }
        const V here = (V)(difference != 0u);
        const V error = distance(sext(got, o.width), sext(same<V>(golden), o.width)) & here;
        is.wrong -= here;
        is.largest = ((V)(is.largest > error) & is.largest) | ((V)(is.largest <= error) & error);
        const u32 where = mix(golden_.cycle * 0x9E3779B1u + row + 1);
        is.hash_low += mix(difference ^ where) & here;
        is.hash_high += mix(difference + (where ^ 0x5BD1E995u)) & here;
    }
}

void Stepper::wrong_word(Vector& v, u32 lane, u32 memory, u32 word, u32 golden, u32 got) {
    Verdicts& is = v.verdicts;
    const i64 error = (i64)(i32)got - (i32)golden;
    is.wrong[lane]++;
    is.largest[lane] = std::max(is.largest[lane], (u32)(error < 0 ? -error : error));
    const u32 where = mix(mix(memory + 0x2545F491u) + word);
    is.hash_low[lane] += mix((got ^ golden) ^ where);
    is.hash_high[lane] += mix((got ^ golden) + (where ^ 0x5BD1E995u));
    if (flags & COLLECT) corruptions.push_back({is.fault[lane], memory, word, golden, got});
}

// Lanes whose run ends in this cycle.
void Stepper::end(Vector& v) {
    const u32 now = golden_.cycle;
    u32 ended = 0;
    if (flags & STOP_AT_FIRST_SDC)
        for (u32 left = v.alive & ~v.verdicts.detected; left; left &= left - 1)
            if (v.verdicts.first_difference[__builtin_ctz(left)] >= 0) ended |= left & -left;
    for (u32 left = ended; left; left &= left - 1) finish(v, (u32)__builtin_ctz(left), false, true);
    if (t.done == NONE) ended = now + 1 == trace_.cycles ? v.alive : 0;
    else ended = nonzero(current(t.done)) & v.alive;
    for (u32 left = ended; left; left &= left - 1) finish(v, (u32)__builtin_ctz(left), false, false);
    if (now + 1 == trace_.deadline)
        for (u32 left = v.alive; left; left &= left - 1) finish(v, (u32)__builtin_ctz(left), true, false);
}

// Decides a lane: its run has ended or `hangs`, or goes on as the golden run does `to_the_end`.
void Stepper::finish(Vector& v, u32 lane, bool hangs, bool to_the_end) {
    Verdicts& is = v.verdicts;
    if (!hangs) compare_memory(v, lane, to_the_end);
    const bool flagged = is.detected >> lane & 1, wrong = is.wrong[lane] != 0;
    Outcome& o = outcomes[is.fault[lane]];
    if (hangs && !flagged) o.outcome = HANG;
    else if (is.violation >> lane & 1) o.outcome = PROTOCOL;
    else if (wrong || hangs) o.outcome = flagged ? DUE : SDC;
    else if (flagged) o.outcome = DETECTED_BENIGN;
    else o.outcome = is.corrected >> lane & 1 ? CORRECTED : MASKED;
    o.first_difference = is.first_difference[lane];
    o.first_flag = is.first_flag[lane];
    o.end = (i32)golden_.cycle + 1;
    o.wrong_words = is.wrong[lane];
    o.largest_error = is.largest[lane];
    o.signature = wrong ? std::max<u64>(1, (u64)is.hash_high[lane] << 32 | is.hash_low[lane]) : 0;
    v.alive &= ~(1u << lane);
}

bool Stepper::observed(u32 memory, u32 address) const {
    const MemoryTable& m = t.memory[memory];
    for (u32 k = 0; k < m.ranges; k++)
        if (m.range[2 * k] <= address && address < m.range[2 * k + 1]) return true;
    return false;
}

// Observed words that the golden run's memory does not hold yet, or no longer, in this cycle.
const std::vector<u32>& Stepper::stale() {
    if (stale_cycle_ == golden_.cycle) return stale_;
    stale_cycle_ = golden_.cycle;
    stale_.clear();
    for (u32 m = 0; m < t.memories; m++)
        for (u32 k = 0; k < t.memory[m].ranges; k++)
            for (u32 at = t.memory[m].range[2 * k] * t.memory[m].chunks; at < t.memory[m].range[2 * k + 1] * t.memory[m].chunks; at++)
                if (golden_.memory[m][at] != trace_.final[m][at]) stale_.push_back(t.memory[m].key + at);
    return stale_;
}

void Stepper::compare_memory(Vector& v, u32 lane, bool to_the_end) {
    const u32 before = v.verdicts.wrong[lane];
    for (u32 i = 0; i < v.overlay.size(); i++) {
        const Overlay::Entry& e = v.overlay.entry(i);
        if (!observed(e.memory, e.address)) continue;
        const u32 golden = trace_.final[e.memory][e.key - t.memory[e.memory].key], got = v.overlay.value(i)[lane];
        if (got == golden) continue;
        if (to_the_end) {
            const u32 *end, *access = trace_.accesses(e.memory, e.address, golden_.cycle + 1, &end);
            if (got == golden_.written(e.memory, e.address, e.chunk, NONE)) continue;      // as without faults, and will change
            while (access != end && (*access & 3) != Trace::OVERWRITTEN) access++;
            if (access != end && *access >> 2 < trace_.cycles - 1) continue;
        }
        wrong_word(v, lane, e.memory, e.key - t.memory[e.memory].key, golden, got);
    }
    if (!to_the_end && golden_.cycle + 1 != trace_.cycles)
        for (u32 key : stale()) {
            const Overlay::Entry e = place(key);
            const u32 at = key - t.memory[e.memory].key;
            if (v.overlay.find(key) == NONE) wrong_word(v, lane, e.memory, at, trace_.final[e.memory][at], golden_.memory[e.memory][at]);
        }
    if (v.verdicts.wrong[lane] != before && v.verdicts.first_difference[lane] < 0)
        v.verdicts.first_difference[lane] = (i32)(to_the_end ? trace_.cycles - 1 : golden_.cycle);
}

// Which of `lanes`, whose registers are right, have nothing wrong in memory that the golden run will still read.
u32 Stepper::settled(Vector& v, u32 lanes) {
    u32 live = 0;
    for (u32 i = 0; i < v.overlay.size() && (lanes & ~live); i++) {
        const Overlay::Entry& e = v.overlay.entry(i);
        const u32 wrong = nonzero(v.overlay.value(i) ^ golden_.written(e.memory, e.address, e.chunk, NONE)) & lanes & ~live;
        if (!wrong) continue;
        const u32 *end, *access = trace_.accesses(e.memory, e.address, golden_.cycle + 1, &end);
        if (access != end && *access >> 2 < trace_.cycles && (*access & 3) != Trace::OVERWRITTEN) live |= wrong;
    }
    return lanes & ~live;
}
