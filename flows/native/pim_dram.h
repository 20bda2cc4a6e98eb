// DRAM of one pseudo-channel: it stores rows, returns data after its latency, and checks every command against rules of timing.
//
// Compiled with HEDDLE_DRAM_COMMANDS(X) = X(ACT, 0) X(ACTM, 1) …, the commands and their codes. Rules, sets of commands and
// geometry come from Python (flows/pim/dram.py), which has them from hw.pim.timing_tables. Set s is of the banks s·streams to
// (s + 1)·streams − 1; memory is [set][row][column][stream][byte].

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

namespace heddle {

enum DramCommand : int32_t {
#define HEDDLE_DRAM_CODE(NAME, CODE) NAME = CODE,
    HEDDLE_DRAM_COMMANDS(HEDDLE_DRAM_CODE)
#undef HEDDLE_DRAM_CODE
};
#define HEDDLE_DRAM_COUNT(NAME, CODE) +1
constexpr int DRAM_COMMANDS = 0 HEDDLE_DRAM_COMMANDS(HEDDLE_DRAM_COUNT);
#undef HEDDLE_DRAM_COUNT
constexpr int SCOPES = 4, BANK_SCOPE = 0, GROUP_SCOPE = 1, RANK_SCOPE = 2;     // and the channel
constexpr int WINDOW = 4;                                                      // commands of a kind that a part remembers
constexpr int64_t NEVER = -(int64_t{1} << 40);
constexpr int64_t CLOSED = -1;

struct DramRule {   // see hw.pim.timing_tables.Constraint; `previous` and `following` have a bit for each command
    int64_t cycles;
    uint32_t previous, following;
    int32_t scope, window;
};

// What the state forbids, by number: after the rules of the table.
enum StateRule : int32_t { OPEN, STATE_CLOSED, REFRESH_OPEN, COLUMN, ROW, BANKS, ORDER, DEADLINE, STATE_RULES };

struct DramConfig {
    int64_t latency, refi, deadline;            // clocks: command → after the last beat; refresh interval; longest without one
    uint32_t activates, columns_, refreshes, single, several, pim_buffer, row_buffer;      // sets of commands
    int32_t banks, bank_groups, ranks;          // all banks; groups of a rank
    int32_t streams, rows, columns, burst_bytes;
    int32_t strict, refresh, dual_row_buffers;
    int32_t stripes;                            // sets over which the bursts of a row of the memory go in turn
};

struct DramViolation {
    int64_t at, value;                          // clock of the command; clocks since `previous`, or what is wrong
    int32_t rule, command, previous, bank;      // −1: none
};

struct DramBurst {
    int64_t at;
    std::vector<int32_t> banks;
    std::vector<uint8_t> data;
};

class Dram {
  public:
    std::vector<uint64_t> violations;           // by rule
    std::vector<uint64_t> counts = std::vector<uint64_t>(DRAM_COMMANDS);    // banks touched, by command
    std::deque<DramBurst> returned;
    DramViolation said{};                       // the last violation

    Dram(const DramConfig& config, const DramRule* rules, int32_t count, uint8_t* memory)
        : config_(config), rules_(rules, rules + count), memory_(memory) {
        violations.resize(count + STATE_RULES);
        for (int command = 0; command < DRAM_COMMANDS; ++command)
            for (int rule = 0; rule < count; ++rule)
                if (rules_[rule].following >> command & 1) following_[command].push_back(rule);
        reset();
    }

    // Forgets what was commanded; contents, violations and counts stay.
    void reset() {
        const int parts[SCOPES] = {config_.banks, config_.ranks * config_.bank_groups, config_.ranks, 1};
        for (int scope = 0; scope < SCOPES; ++scope) last_[scope].assign(DRAM_COMMANDS * parts[scope] * WINDOW, NEVER);
        for (auto& rows : open_) rows.assign(config_.banks, CLOSED);
        refreshed_.assign(config_.banks, 0);
        returned.clear();
        now_ = 0;
    }

    // Takes a command for `n` banks; `data` holds a burst for each (WR), `mask` says which are written (null: all). Returns
    // whether it broke no rule; a strict model stops at the first that is broken.
    bool command(int64_t at, DramCommand command, const int32_t* banks, int n, int64_t row, int64_t column, const uint8_t* data,
                 const uint8_t* mask) {
        bool fine = true;
        if (at < now_) {
            fine = complain(ORDER, at, command, -1, now_);
            if (config_.strict) return false;
        }
        now_ = std::max(now_, at);
        if (!exist(at, command, banks, n, row, column)) return false;
        fine &= keeps_rules(at, command, banks, n);
        if (!fine && config_.strict) return false;
        fine &= in_time(at);
        if (!fine && config_.strict) return false;
        fine &= apply(at, command, banks, n, row, column, data, mask);
        if (!fine && config_.strict) return false;
        record(at, command, banks, n);
        counts[command] += n;
        return fine;
    }

    // Looks for banks without a refresh for too long; returns whether there is none.
    bool in_time(int64_t at) {
        if (!config_.refresh || at - oldest_ <= config_.deadline) return true;
        int first = -1;
        for (int bank = 0; bank < config_.banks; ++bank) {
            if (at - refreshed_[bank] <= config_.deadline) continue;
            if (first < 0) first = bank;
            refreshed_[bank] = at;              // said once
        }
        oldest_ = *std::min_element(refreshed_.begin(), refreshed_.end());
        return complain(DEADLINE, at, -1, first, config_.deadline);
    }

    int part(int scope, int bank) const {
        const int rank = bank / (config_.banks / config_.ranks);
        if (scope == BANK_SCOPE) return bank;
        if (scope == GROUP_SCOPE) return rank * config_.bank_groups + bank % config_.bank_groups;
        return scope == RANK_SCOPE ? rank : 0;
    }

    const DramConfig& config() const { return config_; }

  private:
    DramConfig config_;
    std::vector<DramRule> rules_;
    uint8_t* memory_;
    std::vector<int> following_[DRAM_COMMANDS];
    std::vector<int64_t> last_[SCOPES];         // [command][part][WINDOW], newest last
    std::vector<int64_t> open_[2];              // row of a bank; of its second row buffer
    std::vector<int64_t> refreshed_;
    int64_t now_ = 0, oldest_ = 0;

    static bool in(uint32_t set, int command) { return set >> command & 1; }

    int64_t* last(int scope, int command, int part) {
        return &last_[scope][(command * (last_[scope].size() / DRAM_COMMANDS / WINDOW) + part) * WINDOW];
    }

    uint8_t* burst(int bank, int64_t row, int64_t column) {
        const int64_t set = bank / config_.streams, stream = bank % config_.streams;
        const int64_t place = set / config_.stripes, burst = int64_t(column) * config_.stripes + set % config_.stripes;
        const int64_t bursts = int64_t(config_.columns) * config_.stripes;
        return memory_ + (((place * config_.rows + row) * bursts + burst) * config_.streams + stream) * config_.burst_bytes;
    }

    // Both always return false, so that they can end a check.
    bool complain(int rule, int64_t at, int command, int previous, int bank, int64_t value) {
        ++violations[rule];
        said = {at, value, rule, command, previous, bank};
        return false;
    }
    bool complain(StateRule rule, int64_t at, int command, int bank, int64_t value) {
        return complain(static_cast<int>(rules_.size()) + rule, at, command, -1, bank, value);
    }

    bool exist(int64_t at, DramCommand command, const int32_t* banks, int n, int64_t row, int64_t column) {
        const int per_rank = config_.banks / config_.ranks;
        bool sound = n > 0 && !(in(config_.single, command) && n != 1) && !(in(config_.several, command) && n < 2);
        std::vector<bool> named(config_.banks);
        for (int i = 0; sound && i < n; ++i) {
            sound = banks[i] >= 0 && banks[i] < config_.banks && !named[banks[i]];
            if (sound) named[banks[i]] = true;
            if (sound && command == REF) sound = n == per_rank && part(RANK_SCOPE, banks[i]) == part(RANK_SCOPE, banks[0]);
        }
        if (!sound) return complain(BANKS, at, command, n ? banks[0] : -1, n);
        if (in(config_.activates, command) && (row < 0 || row >= config_.rows)) return complain(ROW, at, command, banks[0], row);
        if (in(config_.columns_, command) && (column < 0 || column >= config_.columns))
            return complain(COLUMN, at, command, banks[0], column);
        return true;
    }

    // Which of two row buffers a command is about: 1 for MACs, 0 for normal ones, −1: both.
    int buffer(int command) const { return in(config_.pim_buffer, command) ? 1 : in(config_.row_buffer, command) ? 0 : -1; }

    bool keeps_rules(int64_t at, DramCommand command, const int32_t* banks, int n) {
        bool fine = true;
        for (int index : following_[command]) {
            const DramRule& rule = rules_[index];
            for (int previous = 0; previous < DRAM_COMMANDS; ++previous) {
                if (!in(rule.previous, previous)) continue;
                if (config_.dual_row_buffers && rule.scope == BANK_SCOPE && buffer(previous) >= 0 && buffer(command) >= 0 &&
                    buffer(command) != buffer(previous))
                    continue;
                int64_t latest = NEVER;
                int where = banks[0];
                for (int i = 0; i < n; ++i) {
                    const int64_t time = last(rule.scope, previous, part(rule.scope, banks[i]))[WINDOW - rule.window];
                    if (time > latest) latest = time, where = banks[i];
                }
                if (at - latest < rule.cycles) {
                    fine = complain(index, at, command, previous, where, at - latest);
                    if (config_.strict) return false;
                }
            }
        }
        return fine;
    }

    bool apply(int64_t at, DramCommand command, const int32_t* banks, int n, int64_t row, int64_t column, const uint8_t* data,
               const uint8_t* mask) {
        auto& rows = open_[config_.dual_row_buffers && buffer(command) == 1];
        bool fine = true;
        if (in(config_.activates, command)) {
            for (int i = 0; fine && i < n; ++i)
                if (rows[banks[i]] != CLOSED) fine = complain(OPEN, at, command, banks[i], n);
            if (!fine && config_.strict) return false;
            for (int i = 0; i < n; ++i) rows[banks[i]] = row;
        } else if (in(config_.columns_, command)) {
            for (int i = 0; i < n; ++i)
                if (rows[banks[i]] == CLOSED) return complain(STATE_CLOSED, at, command, banks[i], n);
            const size_t bytes = config_.burst_bytes;
            if (command == WR) {
                for (int i = 0; i < n; ++i)
                    if (!mask || mask[i]) std::memcpy(burst(banks[i], rows[banks[i]], column), data + i * bytes, bytes);
            } else {
                returned.push_back({at + config_.latency, {banks, banks + n}, std::vector<uint8_t>(n * bytes)});
                for (int i = 0; i < n; ++i)
                    std::memcpy(&returned.back().data[i * bytes], burst(banks[i], rows[banks[i]], column), bytes);
            }
        } else if (in(config_.refreshes, command)) {
            for (int i = 0; fine && i < n; ++i)
                if (open_[0][banks[i]] != CLOSED || open_[1][banks[i]] != CLOSED)
                    fine = complain(REFRESH_OPEN, at, command, banks[i], n);
            if (!fine && config_.strict) return false;
            // A refresh answers for one interval: one that comes early does not put the next deadline off.
            for (int i = 0; i < n; ++i) refreshed_[banks[i]] = std::min(refreshed_[banks[i]] + config_.refi, at);
            oldest_ = *std::min_element(refreshed_.begin(), refreshed_.end());
        } else {                                // PRE closes both buffers
            for (int i = 0; i < n; ++i) open_[0][banks[i]] = open_[1][banks[i]] = CLOSED;
        }
        return fine;
    }

    void record(int64_t at, DramCommand command, const int32_t* banks, int n) {
        for (int scope = 0; scope < SCOPES; ++scope) {
            uint64_t seen[4] = {};              // parts that have been moved on already: at most 256
            for (int i = 0; i < n; ++i) {
                const int of = part(scope, banks[i]);
                if (seen[of >> 6] >> (of & 63) & 1) continue;
                seen[of >> 6] |= uint64_t{1} << (of & 63);
                int64_t* times = last(scope, command, of);
                std::memmove(times, times + 1, (WINDOW - 1) * sizeof *times);
                times[WINDOW - 1] = at;
            }
        }
    }
};

}  // namespace heddle
