// What a design is to the lanes: tables made by flows/fault/engines/lanes/tables.py, which has the same members in the same order.
#pragma once
#include "lanes_words.h"
#include <memory>
#include <vector>

constexpr u32 NONE = 0xFFFFFFFFu;

// Rows of numbers: row i is items[start[i]] up to items[start[i + 1] - 1].
struct Rows {
    const u32* start;
    const u32* items;
    const u32* begin(u32 i) const { return items + start[i]; }
    const u32* end(u32 i) const { return items + start[i + 1]; }
    u32 size(u32 i) const { return start[i + 1] - start[i]; }
};

struct MemoryTable {            // `key` is the number of its first 32-bit chunk among those of all memories
    u32 depth, chunks, key, last_mask, ranges;  // last_mask: bits of the last chunk; ranges: how many
    const u32* range;           // first, last + 1, first, … of observed words
    const u32* contents;
};
struct ReadTable { u32 memory, address, enable; };          // a unit, its outputs are the chunks
struct WriteTable { u32 memory, address; Rows data; };      // row 0: data, row 1: mask, of each chunk
struct ObservedTable { u32 word, valid, width; };
struct SiteTable { u32 kind, item; };                       // kinds as in flows/fault/netlist/sites.py; item: word, key, or row of `gates`

// A unit is what is evaluated in one piece: a function, a read, or a write, in this order of evaluation.
struct Tables {
    u32 words, units, inputs, cycles, limit, watchdog, functions, states, memories, reads, writes, observed, sites;
    u32 done, detected, corrected, violation;               // words, or NONE
    const u32* unit_function;                               // function, functions + read, or functions + reads + write
    Rows unit_inputs, unit_outputs;
    Rows users;                                             // units that take a word
    Rows feeds;                                             // registers' words that take a word's value at the clock edge
    const u32* init;                                        // values of all words in cycle 0: registers, constants
    const u32* state_words;
    const u32* input_words;
    const u32* stimuli;                                     // (cycles, inputs)
    const MemoryTable* memory;
    const ReadTable* read;
    const WriteTable* write;
    const ObservedTable* watch;
    const SiteTable* site;
    Rows gates;                                             // unit, operation, unit, operation, … of a gate
};

struct Fault { u32 site, mask, cycle, duration, kind; };
struct Outcome {
    u32 outcome;
    i32 first_difference, first_flag, end;
    u32 wrong_words, largest_error;
    u64 signature;
};
struct Corruption { u32 fault, memory, word, golden, got; };

enum Kind : u32 { SEU, MBU, SET, STUCK0, STUCK1, INTERMITTENT, BUS };
enum SiteKind : u32 { SITE_FF, SITE_MEMORY, SITE_GATE, SITE_BUS };
enum OutcomeClass : u32 { MASKED, CORRECTED, DETECTED_BENIGN, DUE, SDC, PROTOCOL, HANG };
enum Flags : u32 { STOP_AT_FIRST_SDC = 1, COLLECT = 2 };

// A set of units that gives them back in their order.
class Pending {
public:
    explicit Pending(u32 units) : words_((units >> 6) + 1), upper_((words_.size() >> 6) + 1) {}
    void add(u32 unit) {
        words_[unit >> 6] |= 1ull << (unit & 63);
        upper_[unit >> 12] |= 1ull << (unit >> 6 & 63);
    }
    // Takes out the first of those that are left, NONE if none is.
    u32 next() {
        while (at_ < upper_.size() && !upper_[at_]) at_++;
        if (at_ == upper_.size()) { at_ = 0; return NONE; }
        const u32 high = (u32)(at_ << 6) + (u32)__builtin_ctzll(upper_[at_]);
        const u32 unit = (high << 6) + (u32)__builtin_ctzll(words_[high]);
        words_[high] &= words_[high] - 1;
        if (!words_[high]) upper_[at_] &= upper_[at_] - 1;
        return unit;
    }

private:
    std::vector<u64> words_, upper_;
    size_t at_ = 0;     // nothing is pending below; what is added while units are taken out comes later in the order
};
