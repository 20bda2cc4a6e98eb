// The DRAM port of a model (hw.pim.ports.DramPort), served: what both simulators of the logic die have in common.
//
// DRAM commands of a cycle reach the DRAM in the order of their clocks; a burst that is there by the end of a cycle is on the port
// in the next one.

#pragma once

#include <numeric>

#include "pim_dram.h"

namespace heddle {

// Ports are integers up to 64 bits and arrays of words above.
template <typename T> void put(T& port, const uint8_t* bytes, size_t count) { std::memcpy(&port, bytes, count); }
template <typename T> void get(uint8_t* bytes, const T& port, size_t count) { std::memcpy(bytes, &port, count); }

template <typename Top, unsigned BURST> class DramPort {
  public:
    int64_t first_read = -1, last_read = -1;    // DRAM clocks of the first and the last burst that was read; −1

    DramPort(Dram& dram, int32_t phases) : dram_(dram), phases_(phases), banks_(dram.config().banks) {
        std::iota(banks_.begin(), banks_.end(), 0);
    }

    void reset() { cycle_ = 0; }

    // Takes the commands of a cycle, whose outputs have settled; returns whether none broke a rule.
    bool take(const Top& top) {
        const int64_t start = cycle_ * phases_;
        bool fine = true;
        if (top.col_valid && top.row_valid && top.col_phase < top.row_phase) {
            fine = column(top, start + top.col_phase);
            fine &= row(top, start + top.row_phase);
        } else {
            if (top.row_valid) fine = row(top, start + top.row_phase);
            if (top.col_valid) fine &= column(top, start + top.col_phase);
        }
        return fine & dram_.in_time(++cycle_ * phases_);
    }

    // Once the clock has risen: offers the burst that has come, if any.
    void give(Top& top) {
        auto& returned = dram_.returned;
        top.rvalid = !returned.empty() && returned.front().at <= cycle_ * phases_;
        if (!top.rvalid) return;
        put(top.rdata, returned.front().data.data(), BURST);
        returned.pop_front();
    }

  private:
    Dram& dram_;
    int32_t phases_;
    std::vector<int32_t> banks_;
    int64_t cycle_ = 0;

    bool row(const Top& top, int64_t at) {
        const auto& config = dram_.config();
        const auto command = static_cast<DramCommand>(top.row_op);
        int32_t first = top.row_set * config.streams, count = config.streams;
        if (command == REFSB) {
            first += top.row_bank;
            count = 1;
        } else if (top.row_whole || command == REF) {
            count = config.banks / config.ranks;
            first = (first + top.row_bank) / count * count;
        }
        return issue(at, command, first, count, top.row_row, 0, nullptr, nullptr);
    }

    bool column(const Top& top, int64_t at) {
        const auto& config = dram_.config();
        const auto command = static_cast<DramCommand>(top.col_op);
        std::vector<uint8_t> data, mask;
        if (command == WR) {
            data.resize(BURST);
            get(data.data(), top.wdata, BURST);
            uint64_t bits = 0;
            get(reinterpret_cast<uint8_t*>(&bits), top.wmask, sizeof top.wmask);
            for (int stream = 0; stream < config.streams; ++stream) mask.push_back(bits >> stream & 1);
        } else {
            if (first_read < 0) first_read = at;
            last_read = at;
        }
        return issue(at, command, top.col_set * config.streams, config.streams, 0, top.col_column, data.data(), mask.data());
    }

    bool issue(int64_t at, DramCommand command, int32_t first, int32_t count, int64_t row, int64_t column, const uint8_t* data,
               const uint8_t* mask) {
        if (first + count > static_cast<int32_t>(banks_.size())) count = 0;        // there are no such banks: BANKS
        return dram_.command(at, command, banks_.data() + first, count, row, column, data, mask);
    }
};

}  // namespace heddle
