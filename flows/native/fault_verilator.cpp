// Faults in a Verilator model, one after the other: a copy of the state in place of a run from reset, and an end as soon as the
// state is that of the run without faults again. Semantics: flows/fault/records.py, target.py.
//
// Compiled with sites.h, which flows/fault/engines/verilator_engine.py writes: the places of all state-holding variables and ports in
// the model's root.

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "fault.h"

using Root = Vtop___024root;

namespace {

struct Variable {
    size_t offset;
    uint32_t width, depth;  // bits of a word; words, 1 if it is no memory

    constexpr size_t stride() const {
        return width <= 8 ? 1 : width <= 16 ? 2 : width <= 32 ? 4 : width <= 64 ? 8 : 4 * ((width + 31) / 32);
    }
    constexpr size_t bytes() const { return stride() * depth; }
    constexpr uint32_t words() const { return (width + 31) / 32; }
};

#pragma GCC diagnostic ignored "-Winvalid-offsetof"
#include "sites.h"  // VARIABLES (all state, the first MEMORIES of them memories), INPUTS, OUTPUTS

constexpr size_t STATE_BYTES = offsetof(Root, vlSymsp);
constexpr uint32_t NONE = ~uint32_t{0};

// Part `part` (32 bits) of word `index` of a variable.
struct Word {
    size_t offset;
    uint32_t bytes, width;
    Word(const Variable& v, uint32_t index, uint32_t part)
        : offset(v.offset + v.stride() * index + 4 * part), bytes(std::min<size_t>(4, v.stride() - 4 * part)),
          width(std::min<uint32_t>(32, v.width - 32 * part)) {}
    uint32_t get(const uint8_t* root) const {
        uint32_t value = 0;
        std::memcpy(&value, root + offset, bytes);
        return value;
    }
    void put(uint8_t* root, uint32_t value) const { std::memcpy(root + offset, &value, bytes); }
};

// Mirrored in verilator_engine.py.
struct SiteRow {
    uint32_t place, variable, index, low;  // place: 0 state, 1 input that is XORed into a bus, 2 saboteur (first of three inputs)
};

struct Observed {
    uint32_t output, valid;
};

struct Range {
    uint32_t variable, first, end, memory;  // memory: its number in signatures
};

struct Setup {
    const SiteRow* sites;
    const Observed* observed;
    const Range* ranges;
    const uint32_t* driven;    // inputs that have stimuli
    const uint32_t* stimuli;   // (rows, words of all of them)
    const uint32_t* contents;  // of all memories, in the order of VARIABLES
    uint64_t snapshot_bytes;   // for snapshots of the run without faults
    uint32_t site_count, observed_count, range_count, driven_count, rows, stimulus_words;
    uint32_t done, detected, corrected, violation;  // outputs, NONE where there is none
    uint32_t cycles, limit, watchdog;
};

class Engine {
  public:
    explicit Engine(const Setup& setup)
        : setup_(setup), sites_(setup.sites, setup.sites + setup.site_count),
          ranges_(setup.ranges, setup.ranges + setup.range_count),
          stimuli_(setup.stimuli, setup.stimuli + size_t{setup.rows} * setup.stimulus_words) {
        context_.fatalOnError(false);
        top_ = std::make_unique<Vtop>(&context_, "");
        root_ = reinterpret_cast<uint8_t*>(top_->rootp);
        top_->clk = 0;
        top_->rst = 0;
        top_->eval();
        load(setup.contents);
        for (uint32_t i = 0; i < setup.driven_count; ++i)
            for (uint32_t part = 0; part < INPUTS[setup.driven[i]].words(); ++part) driven_.emplace_back(INPUTS[setup.driven[i]], 0, part);
        for (uint32_t i = 0; i < setup.observed_count; ++i)
            for (uint32_t part = 0; part < OUTPUTS[setup.observed[i].output].words(); ++part) {
                observed_.emplace_back(OUTPUTS[setup.observed[i].output], 0, part);
                valid_.push_back(setup.observed[i].valid);
            }
        for (const Variable& v : VARIABLES) state_.push_back({v.offset, v.bytes()});
        std::sort(state_.begin(), state_.end());
        size_t kept = 0;
        for (size_t i = 1; i < state_.size(); ++i) {  // neighbours are compared at once
            auto& last = state_[kept];
            if (state_[i].first == last.first + last.second) last.second += state_[i].second;
            else state_[++kept] = state_[i];
        }
        state_.resize(kept + 1);
        std::sort(state_.begin(), state_.end(), [](auto& a, auto& b) { return a.second < b.second; });  // flip-flops first
        start_.assign(root_, root_ + STATE_BYTES);
        golden();
    }

    bool ended = false, flagged = false, violated = false;
    uint32_t cycles = 0;
    uint64_t simulated = 0;  // cycles of all runs, not counted what no fault is in
    std::vector<uint32_t> outputs;      // of the run without faults, (cycles, words)
    std::vector<uint8_t> last;          // its state in the last cycle

    void run(const fault::Fault* faults, size_t n, fault::Outcome* outcomes, uint32_t flags) {
        std::vector<size_t> order(n);
        std::iota(order.begin(), order.end(), size_t{0});
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return faults[a].cycle < faults[b].cycle; });
        std::vector<uint8_t> cursor = start_;
        uint32_t at = 0;
        for (size_t i : order) {
            const fault::Fault& f = faults[i];
            if (f.cycle >= cycles) {
                outcomes[i] = {fault::MASKED, -1, -1, int32_t(f.cycle), 0, 0, 0};
                continue;
            }
            if (at != f.cycle) {
                if (const uint32_t nearest = f.cycle / interval_ * interval_; nearest > at) {
                    cursor = snapshots_[nearest / interval_];
                    at = nearest;
                }
                std::memcpy(root_, cursor.data(), STATE_BYTES);
                for (; at < f.cycle; ++at) {
                    low(at);
                    high();
                }
                std::memcpy(cursor.data(), root_, STATE_BYTES);
            } else {
                std::memcpy(root_, cursor.data(), STATE_BYTES);
            }
            outcomes[i] = inject(f, flags);
        }
    }

    // Run from the first cycle with no use of what is known of the run without faults but its outputs: what snapshots save.
    fault::Outcome run_from_reset(const fault::Fault& f) {
        std::memcpy(root_, start_.data(), STATE_BYTES);
        for (uint32_t t = 0; t < f.cycle; ++t) {
            low(t);
            high();
        }
        simulated += f.cycle;
        return inject(f, 0, false);
    }

    void memory(uint32_t variable, uint32_t* words) const {
        const Variable& v = VARIABLES[variable];
        for (uint32_t i = 0; i < v.depth; ++i)
            for (uint32_t part = 0; part < v.words(); ++part) *words++ = Word(v, i, part).get(last.data());
    }

  private:
    Setup setup_;
    VerilatedContext context_;
    std::unique_ptr<Vtop> top_;
    uint8_t* root_;
    std::vector<SiteRow> sites_;
    std::vector<Range> ranges_;
    std::vector<uint32_t> stimuli_;
    std::vector<Word> driven_, observed_;
    std::vector<uint32_t> valid_;  // of each observed word: the output that qualifies it
    std::vector<std::pair<size_t, size_t>> state_;  // (offset, bytes) of all state
    std::vector<uint8_t> start_;
    std::vector<std::vector<uint8_t>> snapshots_;
    std::vector<uint8_t> counts_;  // (cycles, observed words): whether the word is compared
    uint32_t interval_ = 1;

    void load(const uint32_t* contents) {
        for (size_t m = 0; m < MEMORIES; ++m)
            for (uint32_t i = 0; i < VARIABLES[m].depth; ++i)
                for (uint32_t part = 0; part < VARIABLES[m].words(); ++part) Word(VARIABLES[m], i, part).put(root_, *contents++);
    }

    bool is_high(uint32_t output) const { return output != NONE && root_[OUTPUTS[output].offset]; }

    // The part of cycle t before its clock edge.
    void low(uint32_t t) {
        const uint32_t* row = stimuli_.data() + size_t{std::min(t, setup_.rows - 1)} * setup_.stimulus_words;
        for (const Word& word : driven_) word.put(root_, *row++);
        top_->clk = 0;
        top_->eval();
    }

    void high() {
        top_->clk = 1;
        top_->eval();
    }

    void golden() {
        const uint32_t limit = setup_.done == NONE ? setup_.cycles : setup_.limit;
        for (uint32_t t = 0; t < limit; ++t) {
            if (t % interval_ == 0) {
                snapshots_.emplace_back(root_, root_ + STATE_BYTES);
                if (snapshots_.size() * STATE_BYTES > setup_.snapshot_bytes) thin();
            }
            low(t);
            for (size_t i = 0; i < observed_.size(); ++i) {
                outputs.push_back(observed_[i].get(root_));
                counts_.push_back(valid_[i] == NONE || is_high(valid_[i]));
            }
            flagged |= is_high(setup_.detected) || is_high(setup_.corrected);
            violated |= is_high(setup_.violation);
            cycles = t + 1;
            ended = setup_.done == NONE ? t + 1 == limit : is_high(setup_.done);
            if (ended) break;
            high();
        }
        last.assign(root_, root_ + STATE_BYTES);
    }

    void thin() {
        for (size_t i = 1; 2 * i < snapshots_.size(); ++i) snapshots_[i] = std::move(snapshots_[2 * i]);
        snapshots_.resize((snapshots_.size() + 1) / 2);
        interval_ *= 2;
    }

    // Change bits of a word of a variable by `change`, a function of (value, mask).
    template <typename Change> void modify(const Variable& v, const SiteRow& site, uint32_t mask, Change change) {
        const uint64_t shifted = uint64_t{mask} << (site.low % 32);
        for (uint32_t i = 0; i < 2; ++i)
            if (const uint32_t bits = uint32_t(shifted >> (32 * i))) {
                const Word word(v, site.index, site.low / 32 + i);
                word.put(root_, change(word.get(root_), bits));
            }
    }

    void disturb(const fault::Fault& f, const SiteRow& site) {
        modify(VARIABLES[site.variable], site, f.mask, [&](uint32_t value, uint32_t mask) {
            return f.kind == fault::STUCK0 ? value & ~mask : f.kind == fault::STUCK1 ? value | mask : value ^ mask;
        });
    }

    // Drive a tap or a saboteur, or let it go.
    void tap(const fault::Fault& f, const SiteRow& site, bool on) {
        const uint32_t input = site.variable + (site.place == 1 ? 0 : f.kind == fault::STUCK0 ? 1 : f.kind == fault::STUCK1 ? 2 : 0);
        modify(INPUTS[input], site, f.mask, [&](uint32_t value, uint32_t mask) { return on ? value | mask : value & ~mask; });
    }

    bool is_golden(uint32_t t) const {
        if (t % interval_ || t / interval_ >= snapshots_.size()) return false;
        const uint8_t* other = snapshots_[t / interval_].data();
        for (auto [offset, bytes] : state_)
            if (std::memcmp(root_ + offset, other + offset, bytes)) return false;
        return true;
    }

    fault::Outcome inject(const fault::Fault& f, uint32_t flags, bool early = true) {
        const SiteRow& site = sites_[f.site];
        const bool once = f.kind == fault::SEU || f.kind == fault::MBU;
        const bool stuck = f.kind == fault::STUCK0 || f.kind == fault::STUCK1;
        const uint64_t until = once ? f.cycle + uint64_t{1} : stuck && !f.duration ? ~uint64_t{0} : f.cycle + uint64_t{f.duration};
        const uint32_t deadline = setup_.done == NONE ? setup_.cycles
            : uint32_t(std::min<uint64_t>(setup_.limit, 2 * uint64_t{cycles} + setup_.watchdog));
        fault::Outcome o{0, -1, -1, int32_t(deadline), 0, 0, 0};
        bool over = false, fixed = false, broken = false;
        fault::Signature signature;
        auto wrong = [&](uint32_t t, uint32_t place, uint32_t golden, uint32_t got, uint32_t width) {
            if (o.first_difference < 0) o.first_difference = int32_t(t);
            ++o.wrong_words;
            o.largest_error = std::max(o.largest_error, fault::error_of(golden, got, width));
            signature.add(place, golden ^ got);
        };
        for (uint32_t t = f.cycle; t < deadline; ++t) {
            const bool active = t < until;
            if (active && site.place == 0) disturb(f, site);
            if (active && site.place != 0) tap(f, site, true);
            low(t);
            ++simulated;
            if (t < cycles)
                for (size_t i = 0, at = size_t{t} * observed_.size(); i < observed_.size(); ++i, ++at)
                    if (const uint32_t got = observed_[i].get(root_); got != outputs[at] && counts_[at])
                        wrong(t, fault::port_place(t, uint32_t(i)), outputs[at], got, observed_[i].width);
            if (o.first_flag < 0 && is_high(setup_.detected)) o.first_flag = int32_t(t);
            fixed |= is_high(setup_.corrected);
            broken |= is_high(setup_.violation);
            over = setup_.done == NONE ? t + 1 == deadline : is_high(setup_.done);
            const bool enough = (flags & fault::STOP_AT_FIRST_SDC) && o.wrong_words && o.first_flag < 0;
            if (over || enough) {
                if (over && !ranges_.empty()) compare_memories(t, wrong);
                over = true;
                o.end = int32_t(t + 1);
                if (active && site.place != 0) tap(f, site, false);
                break;
            }
            high();
            if (active && site.place != 0) tap(f, site, false);
            if (early && t + 1 >= until && is_golden(t + 1)) {
                over = true;
                o.end = int32_t(t + 1);
                break;
            }
        }
        o.outcome = fault::classify(over, broken, o.wrong_words != 0, o.first_flag >= 0, fixed);
        o.signature = signature.value(o.wrong_words != 0);
        return o;
    }

    template <typename Wrong> void compare_memories(uint32_t t, Wrong wrong) const {
        for (const Range& range : ranges_) {
            const Variable& v = VARIABLES[range.variable];
            const size_t first = v.offset + v.stride() * range.first, bytes = v.stride() * (range.end - range.first);
            if (std::memcmp(root_ + first, last.data() + first, bytes))
                for (uint32_t i = range.first; i < range.end; ++i)
                    for (uint32_t part = 0; part < v.words(); ++part) {
                        const Word word(v, i, part);
                        const uint32_t golden = word.get(last.data()), got = word.get(root_);
                        if (golden != got)
                            wrong(t, fault::memory_place(range.memory, i * v.words() + part), golden, got, word.width);
                    }
        }
    }
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void* fi_create(const Setup* setup) { return new Engine(*setup); }
EXPORT void fi_destroy(void* handle) { delete static_cast<Engine*>(handle); }
EXPORT void fi_run(void* handle, const fault::Fault* faults, size_t n, fault::Outcome* outcomes, uint32_t flags) {
    static_cast<Engine*>(handle)->run(faults, n, outcomes, flags);
}
EXPORT void fi_run_from_reset(void* handle, const fault::Fault* faults, size_t n, fault::Outcome* outcomes) {
    for (size_t i = 0; i < n; ++i) outcomes[i] = static_cast<Engine*>(handle)->run_from_reset(faults[i]);
}
// Whether the run without faults ended, its cycles, whether it raised a flag, whether it broke a rule.
EXPORT void fi_golden(void* handle, uint32_t* facts) {
    const auto& engine = *static_cast<Engine*>(handle);
    facts[0] = engine.ended;
    facts[1] = engine.cycles;
    facts[2] = engine.flagged;
    facts[3] = engine.violated;
}
EXPORT size_t fi_outputs(void* handle, const uint32_t** words) {
    const auto& engine = *static_cast<Engine*>(handle);
    *words = engine.outputs.data();
    return engine.outputs.size();
}
EXPORT void fi_memory(void* handle, uint32_t variable, uint32_t* words) { static_cast<Engine*>(handle)->memory(variable, words); }
EXPORT uint64_t fi_simulated(void* handle) { return static_cast<Engine*>(handle)->simulated; }
EXPORT size_t fi_state_bytes() { return STATE_BYTES; }
