// The run without faults: one machine, of which only what changes is evaluated, and the record of when what changes.
#pragma once
#include "lanes_tables.h"
#include <algorithm>

extern const Functions functions[];

class Golden {
public:
    explicit Golden(const Tables& tables)
        : t(tables), memory(tables.memories), present_(tables.words), pending_(tables.units), changed_(tables.words, 0) {
        u32 most = 0;
        for (u32 u = 0; u < t.units; u++) most = std::max({most, t.unit_inputs.size(u), t.unit_outputs.size(u)});
        in_.resize(most + 1);
        out_.resize(most + 1);
        readers_.resize(t.memories);
        for (u32 u = 0; u < t.units; u++)
            if (is_read(u)) readers_[read_of(u).memory].push_back(u);
    }

    bool is_read(u32 unit) const { return t.unit_function[unit] - t.functions < t.reads; }
    bool is_write(u32 unit) const { return t.unit_function[unit] >= t.functions + t.reads; }
    const ReadTable& read_of(u32 unit) const { return t.read[t.unit_function[unit] - t.functions]; }
    const WriteTable& write_of(u32 unit) const { return t.write[t.unit_function[unit] - t.functions - t.reads]; }
    const std::vector<u32>& readers(u32 m) const { return readers_[m]; }

    void restart() {
        present_.assign(t.init, t.init + t.words);
        value = present_.data();
        for (u32 m = 0; m < t.memories; m++)
            memory[m].assign(t.memory[m].contents, t.memory[m].contents + (size_t)t.memory[m].depth * t.memory[m].chunks);
        for (u32 u = 0; u < t.units; u++) pending_.add(u);
        for (u32 w = 0; w < t.words; w++) touch(w);
        written_memories.clear();
        cycle = 0;
    }

    // Evaluates a cycle up to the clock edge at its end. `evaluated(unit)` is told what had an input that changed.
    template <class Told> void settle(Told evaluated) {
        const u32* row = t.stimuli + (size_t)std::min(cycle, t.cycles - 1) * t.inputs;
        for (u32 k = 0; k < t.inputs; k++) set(t.input_words[k], row[k]);
        firing.clear();
        for (u32 unit; (unit = pending_.next()) != NONE;) {
            evaluated(unit);
            const u32* outputs = t.unit_outputs.begin(unit);
            const u32 count = t.unit_outputs.size(unit);
            if (t.unit_function[unit] < t.functions) {
                const u32* inputs = t.unit_inputs.begin(unit);
                for (u32 k = 0; k < t.unit_inputs.size(unit); k++) in_[k] = value[inputs[k]];
                functions[t.unit_function[unit]].one(in_.data(), out_.data());
                for (u32 k = 0; k < count; k++) set(outputs[k], out_[k]);
            } else if (is_read(unit)) {
                const ReadTable& r = read_of(unit);
                for (u32 k = 0; k < count; k++) set(outputs[k], stored(r.memory, value[r.address], k));
            }
        }
        for (u32 k = 0; k < t.writes; k++)
            if (fires(t.write[k])) firing.push_back(k);
    }

    // The clock edge.
    void edge() {
        next_.clear();
        for (u32 word : touched_) {
            changed_[word] = 0;
            for (const u32* s = t.feeds.begin(word); s != t.feeds.end(word); s++) next_.push_back({*s, value[word]});
        }
        touched_.clear();
        written_memories.clear();
        for (u32 k : firing) {
            const WriteTable& w = t.write[k];
            written_memories.push_back(w.memory);
            for (u32 c = 0; c < t.memory[w.memory].chunks; c++) {
                u32& word = memory[w.memory][(size_t)value[w.address] * t.memory[w.memory].chunks + c];
                const u32 mask = value[w.data.begin(1)[c]];
                word = (word & ~mask) | (value[w.data.begin(0)[c]] & mask);
            }
            for (u32 unit : readers_[w.memory]) pending_.add(unit);
        }
        for (auto [word, next] : next_) set(word, next);
        cycle++;
    }

    u32 stored(u32 m, u32 address, u32 chunk) const {
        const MemoryTable& table = t.memory[m];
        return address < table.depth ? memory[m][(size_t)address * table.chunks + chunk] : 0;
    }
    bool fires(const WriteTable& w) const {
        if (value[w.address] >= t.memory[w.memory].depth) return false;
        for (const u32* mask = w.data.begin(1); mask != w.data.end(1); mask++)
            if (value[*mask]) return true;
        return false;
    }
    // Shows a cycle of a run that was kept: a design without memories needs no more.
    void show(u32 now, const u32* values) {
        cycle = now;
        value = values;
    }
    // What word `chunk` of an address will hold after the first `ports` writes that fire at the end of this cycle.
    u32 written(u32 m, u32 address, u32 chunk, u32 ports) const {
        u32 word = stored(m, address, chunk);
        for (u32 k : firing) {
            const WriteTable& w = t.write[k];
            if (k >= ports || w.memory != m || value[w.address] != address) continue;
            const u32 mask = value[w.data.begin(1)[chunk]];
            word = (word & ~mask) | (value[w.data.begin(0)[chunk]] & mask);
        }
        return word;
    }

    const Tables& t;
    const u32* value = nullptr;                 // of each word in this cycle
    std::vector<std::vector<u32>> memory;
    std::vector<u32> firing;                    // writes that do something in this cycle
    std::vector<u32> written_memories;          // at the last clock edge
    u32 cycle = 0;

private:
    void touch(u32 word) {
        if (!changed_[word]) {
            changed_[word] = 1;
            touched_.push_back(word);
        }
    }
    void set(u32 word, u32 next) {
        if (present_[word] == next) return;
        present_[word] = next;
        touch(word);
        for (const u32* u = t.users.begin(word); u != t.users.end(word); u++) pending_.add(*u);
    }

    std::vector<u32> present_;
    Pending pending_;
    std::vector<u8> changed_;
    std::vector<u32> touched_, in_, out_;
    std::vector<std::pair<u32, u32>> next_;
    std::vector<std::vector<u32>> readers_;
};

// When, in the run without faults, each unit had an input that changed, and each memory word was read or written.
struct Trace {
    enum Access : u32 { READ, OVERWRITTEN, PARTLY_WRITTEN };
    std::vector<u32> unit_start, unit_cycles;       // ascending cycles, by unit
    std::vector<u32> word_start, word_accesses;     // cycle << 2 | Access, by address of each memory, one memory after the other
    std::vector<u32> first_address;                 // of each memory among those of all
    std::vector<std::vector<u32>> final;            // memories in the last cycle
    u32 cycles = 0;                                 // length of the run; 0 if it did not end
    u32 deadline = 0;                               // cycles after which a run hangs
    bool flagged = false, violated = false;         // it raised a flag of an error, or broke a rule of a bus
    std::vector<u32> rows;                          // all words in each cycle, if the design is small and has no memories

    // First cycle from `from` on in which a unit's input changes.
    u32 change(u32 unit, u32 from) const {
        const u32 *first = unit_cycles.data() + unit_start[unit], *last = unit_cycles.data() + unit_start[unit + 1];
        const u32* found = std::lower_bound(first, last, from);
        return found == last ? NONE : *found;
    }
    u32 address_of(u32 m, u32 address) const { return first_address[m] + address; }
    // First access from cycle `from` on, as in `word_accesses`.
    const u32* accesses(u32 m, u32 address, u32 from, const u32** end) const {
        const u32 word = address_of(m, address);
        *end = word_accesses.data() + word_start[word + 1];
        return std::lower_bound(word_accesses.data() + word_start[word], *end, from << 2);
    }
};

Trace record(Golden& golden);
