// A vector of machines, each with a fault of its own, kept as what differs from the run without faults.
#pragma once
#include "lanes_golden.h"
#include "lanes_overlay.h"
#include <deque>

extern const StruckFunction struck_functions[];
extern const bool has_struck_functions;

// What is known of each lane's fault.
struct Verdicts {
    u32 fault[LANES];
    i32 first_difference[LANES], first_flag[LANES];
    u32 detected, corrected, violation;     // masks of lanes
    V wrong, largest, hash_low, hash_high;
};

// All words of a vector that has little in common with the run without faults: what changes is evaluated, as in that run.
struct Dense {
    Vectors value;
    std::vector<u32> restore, struck;       // inputs and units that a fault touched in the last cycle
    std::vector<u32> stored;                // memories whose overlay changed in the last cycle
    bool fresh;                             // the values are those of the run without faults, before the registers' are put in
};

struct Vector {
    explicit Vector(u32 memories) : overlay(memories) {}

    std::vector<u32> words;                 // registers' words that differ in some lane, and their values in all
    Vectors values;
    Overlay overlay;
    std::vector<u32> active;                // lanes whose fault lasts
    std::vector<u32> order;                 // lanes by the cycle in which their fault begins
    u32 begun = 0;                          // how many have
    Dense* dense = nullptr;                 // if it has one, words and values are registers that change, not that differ
    u32 alive = 0;                          // lanes whose fault has begun, and which are not decided
    Verdicts verdicts;
};

// Advances vectors cycle by cycle, each beside the run without faults.
class Stepper {
public:
    Stepper(Golden& golden, const Trace& trace);

    void begin(Vector& v, const u32* chosen, u32 count);
    // Advances `v` by the golden run's present cycle. Returns the next cycle in which it has to be advanced, NONE when all its
    // lanes are decided.
    u32 step(Vector& v);

    const Fault* faults = nullptr;
    Outcome* outcomes = nullptr;
    u32 flags = 0;
    std::vector<Corruption> corruptions;

private:
    static u32 until(const Fault& fault);     // the first cycle in which it does nothing any more
    struct Struck { u32 unit; Strike strike; };

    V current(u32 w) const {
        if (dense_) return dense_->value[w];
        return slot_[w] ? arena_[slot_[w] - 1] : same<V>(golden_.value[w]);
    }
    bool differs(u32 w) const { return dense_ || slot_[w]; }
    u32 step_sparse(Vector& v);
    u32 step_dense(Vector& v);
    void densify(Vector& v);
    void put(u32 w, V value);
    void put_registers(Vector& v);
    void evaluate_dense(Vector& v);
    void write_dense(Vector& v);
    void commit_dense(Vector& v, bool all);
    bool thin_out(Vector& v);
    void raise(u32 w, V value);
    void inject(Vector& v);
    void apply(Vector& v, u32 lane, const Fault& fault);
    void strike(u32 lane, const Fault& fault, u32 gate);
    void evaluate(Vector& v);
    void call(u32 unit);
    void compute(u32 unit);
    void read(Vector& v, u32 unit);
    void wake_reads(Vector& v);
    void observe(Vector& v);
    void compare(Vector& v, u32 w);
    void end(Vector& v);
    void finish(Vector& v, u32 lane, bool hangs, bool to_the_end);
    void compare_memory(Vector& v, u32 lane, bool to_the_end);
    void wrong_word(Vector& v, u32 lane, u32 memory, u32 word, u32 golden, u32 got);
    void write(Vector& v, u32 port, bool differs);
    void store(Vector& v, const Overlay::Entry& place, V value, u32 golden);
    bool commit(Vector& v);
    void forget(Vector& v);
    u32 settled(Vector& v, u32 lanes);
    u32 wake(Vector& v, bool still);
    u32 lasting(const Vector& v) const;
    bool observed(u32 memory, u32 address) const;
    Overlay::Entry place(u32 key) const;
    const std::vector<u32>& stale();

    Golden& golden_;
    const Trace& trace_;
    const Tables& t;
    Pending pending_;
    std::vector<u32> slot_;                 // word → 1 + place in the arena, 0 where it is as it should be
    Vectors arena_;
    std::vector<u32> touched_, evaluated_, writes_;
    Vectors in_, out_;
    std::vector<u8> role_;                  // of a word: somebody watches it
    std::vector<std::vector<u32>> watched_; // rows of `watch`, by word
    std::vector<u32> next_words_;
    Vectors next_values_;
    std::vector<Struck> struck_;
    std::vector<Strike> strikes_;
    u32 wrong_ = 0;                         // lanes whose registers differ after this step
    bool changed_ = false, seen_ = false;   // in this step: an overlay changed; an observed word differed
    Dense* dense_ = nullptr;                // of the vector that is advanced
    std::deque<Dense> dense_pool_;
    std::vector<Dense*> dense_idle_;
    std::vector<u8> dense_touched_;
    std::vector<u32> forced_;               // registers' words that a fault changed in this cycle
    std::vector<u32> watch_words_, next_of_;
    u32 stale_cycle_ = NONE;
    std::vector<u32> stale_;                // observed words in which the memory of this cycle and of the run's last one differ
};
