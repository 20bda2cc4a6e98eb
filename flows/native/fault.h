// Faults and outcomes as flows/fault/records.py declares them, and what every engine must compute in the same way.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fault {

enum Kind : uint32_t { SEU, MBU, SET, STUCK0, STUCK1, INTERMITTENT, BUS };
enum Class : uint32_t { MASKED, CORRECTED, DETECTED_BENIGN, DUE, SDC, PROTOCOL, HANG };
enum Flag : uint32_t { STOP_AT_FIRST_SDC = 1 };

#pragma pack(push, 1)
struct Fault {
    uint32_t site, mask, cycle, duration, kind;
};
struct Outcome {
    uint32_t outcome;
    int32_t first_difference, first_flag, end;
    uint32_t wrong_words, largest_error;
    uint64_t signature;
};
#pragma pack(pop)
static_assert(sizeof(Fault) == 20 && sizeof(Outcome) == 32);

// A signature is two sums over the wrong words, so that their order does not matter, of 32-bit hashes (the vector engine's words)
// of where a word is and how it differs: the word `row` of those observed in a cycle, or the 32-bit word `word` of the
// netlist's memory `memory`.
inline uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

inline uint32_t port_place(uint32_t cycle, uint32_t row) { return mix(cycle * 0x9E3779B1u + row + 1); }
inline uint32_t memory_place(uint32_t memory, uint32_t word) { return mix(mix(memory + 0x2545F491u) + word); }

struct Signature {
    uint32_t low = 0, high = 0;
    void add(uint32_t place, uint32_t difference) {
        low += mix(difference ^ place);
        high += mix(difference + (place ^ 0x5BD1E995u));
    }
    // 0 is kept for results without a wrong word.
    uint64_t value(bool wrong) const {
        const uint64_t sum = uint64_t{high} << 32 | low;
        return wrong ? sum ? sum : 1 : 0;
    }
};

// The absolute difference of two words of `width` bits, two's complement.
inline uint32_t error_of(uint32_t golden, uint32_t got, unsigned width) {
    const unsigned unused = 32 - width;
    const int64_t difference = int64_t{int32_t(got << unused) >> unused} - (int32_t(golden << unused) >> unused);
    return uint32_t(difference < 0 ? -difference : difference);
}

// What a run became: the first that holds, from the last member to the first.
inline uint32_t classify(bool ended, bool violated, bool wrong, bool flagged, bool corrected) {
    if (!ended && !flagged) return HANG;
    if (violated) return PROTOCOL;
    if (wrong || !ended) return flagged ? DUE : SDC;
    return flagged ? DETECTED_BENIGN : corrected ? CORRECTED : MASKED;
}

}  // namespace fault
