// The DRAM of pim_dram.h on its own, behind a C interface: for tests that hold it to its definition in Python.

#include "pim_dram.h"

using heddle::Dram;

#define HEDDLE_API extern "C" __attribute__((visibility("default")))

namespace {
Dram* of(void* handle) { return static_cast<Dram*>(handle); }
}  // namespace

HEDDLE_API void* heddle_dram_create(const heddle::DramConfig* config, const heddle::DramRule* rules, int32_t count,
                                    uint8_t* memory) {
    return new Dram(*config, rules, count, memory);
}
HEDDLE_API void heddle_dram_destroy(void* handle) { delete of(handle); }
HEDDLE_API int heddle_dram_command(void* handle, int64_t at, int32_t command, const int32_t* banks, int32_t n, int64_t row,
                                   int64_t column, const uint8_t* data, const uint8_t* mask) {
    return of(handle)->command(at, static_cast<heddle::DramCommand>(command), banks, n, row, column, data, mask);
}
HEDDLE_API int heddle_dram_in_time(void* handle, int64_t at) { return of(handle)->in_time(at); }
HEDDLE_API void heddle_dram_said(void* handle, heddle::DramViolation* into) { *into = of(handle)->said; }
HEDDLE_API const uint64_t* heddle_dram_violations(void* handle) { return of(handle)->violations.data(); }
HEDDLE_API const uint64_t* heddle_dram_counts(void* handle) { return of(handle)->counts.data(); }

// Takes the oldest burst: its clock, its banks and their data. Returns the number of banks, 0 if there is no burst.
HEDDLE_API int32_t heddle_dram_take(void* handle, int64_t* at, int32_t* banks, uint8_t* data) {
    auto& returned = of(handle)->returned;
    if (returned.empty()) return 0;
    const auto burst = std::move(returned.front());
    returned.pop_front();
    *at = burst.at;
    std::copy(burst.banks.begin(), burst.banks.end(), banks);
    std::copy(burst.data.begin(), burst.data.end(), data);
    return static_cast<int32_t>(burst.banks.size());
}
