// Words of one machine and of a vector of machines, one in each lane, with the same operations on both.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

using u8 = uint8_t;
using u32 = uint32_t;
using u64 = uint64_t;
using i32 = int32_t;
using i64 = int64_t;

#if defined(__AVX512F__)
constexpr u32 LANES = 16;
#elif defined(__AVX2__)
constexpr u32 LANES = 8;
#else
constexpr u32 LANES = 4;
#endif
constexpr u32 ALL_LANES = (1u << LANES) - 1;

typedef u32 V __attribute__((vector_size(4 * LANES)));
typedef i32 SV __attribute__((vector_size(4 * LANES)));

template <class W> static inline W same(u32 x) { return W{} + x; }

static inline u32 eq(u32 a, u32 b) { return a == b; }
static inline V eq(V a, V b) { return (V)(a == b) & 1u; }
static inline u32 ltu(u32 a, u32 b) { return a < b; }
static inline V ltu(V a, V b) { return (V)(a < b) & 1u; }
static inline u32 lts(u32 a, u32 b) { return (i32)a < (i32)b; }
static inline V lts(V a, V b) { return (V)((SV)a < (SV)b) & 1u; }
static inline u32 any(u32 a) { return a != 0; }
static inline V any(V a) { return (V)(a != 0u) & 1u; }
static inline u32 mux(u32 s, u32 zero, u32 one) { return s ? one : zero; }
static inline V mux(V s, V zero, V one) { return zero ^ ((zero ^ one) & (0u - s)); }
static inline u32 sar(u32 a, u32 b) { return (u32)((i32)a >> b); }
static inline V sar(V a, V b) { return (V)((SV)a >> (SV)b); }
template <class W> static inline W sext(W a, u32 width) {
    if (width == 1) return 0u - a;
    const W sign = same<W>(1u << (width - 1));
    return (a ^ sign) - sign;
}
template <class W> static inline W parity(W a) {
    a ^= a >> 16u; a ^= a >> 8u; a ^= a >> 4u; a ^= a >> 2u; a ^= a >> 1u;
    return a & 1u;
}

// One bit for each lane that is not 0.
static inline u32 nonzero(V v) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)v, (__m512i)v);
#elif defined(__AVX2__)
    return 255u ^ (u32)_mm256_movemask_ps((__m256)_mm256_cmpeq_epi32((__m256i)v, _mm256_setzero_si256()));
#else
    u32 found = 0;
    for (u32 l = 0; l < LANES; l++) found |= (u32)(v[l] != 0) << l;
    return found;
#endif
}

// All ones in the lanes of a mask.
static inline V lanes_of(u32 mask) {
#if defined(__AVX512F__)
    return (V)_mm512_maskz_set1_epi32((__mmask16)mask, -1);
#else
    V bits;
    for (u32 l = 0; l < LANES; l++) bits[l] = 1u << l;
    return (V)((bits & mask) != 0u);
#endif
}

// Faults that strike results of one function's operations in this cycle.
struct Strike {
    u32 operation;
    V keep, set, flip;
};
struct Strikes {
    const Strike* first;
    u32 count;
};
static inline V struck(const Strikes& strikes, u32 operation, V value) {
    for (u32 k = 0; k < strikes.count; k++) {
        const Strike& s = strikes.first[k];
        if (s.operation == operation) value = ((value & s.keep) | s.set) ^ s.flip;
    }
    return value;
}

struct Functions {
    void (*one)(const u32*, u32*);
    void (*lanes)(const V*, V*);
};
typedef void (*StruckFunction)(const V*, V*, const Strikes&);

#ifdef STRIKE
#define STRIKES , const Strikes& strikes
#define NODE(index, value) struck(strikes, index, value)
#else
#define STRIKES
#define NODE(index, value) value
#endif
