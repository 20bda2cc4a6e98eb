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

// Places of wrong words. Ports: cycle * (observed words of a cycle) + index of the word in the order of Target.observed;
// memories: MEMORY_PLACE + index of the word among those of Target.observed_memory.
constexpr uint64_t MEMORY_PLACE = uint64_t{1} << 63;

// A signature is the sum of this over the wrong words, so that their order does not matter (SplitMix64's finalizer).
inline uint64_t wrong_word(uint64_t place, uint32_t difference) {
    uint64_t x = place * 0x9E3779B97F4A7C15u + difference;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

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
