// One pseudo-channel of the PIM logic die as a Verilator model, its DRAM behind it and a host before it, behind a C interface.
//
// Compiled with HEDDLE_DRAM_COMMANDS (see pim_dram.h), HEDDLE_WORD_BYTES (a host word) and HEDDLE_BURST_BYTES (a burst of all
// streams). A cycle is two evaluations: the inputs settle while the clock is low, then the clock rises.
//
// With HEDDLE_PIM_TRACE the model has ports that show the queues, and what happens in each cycle becomes events, which
// flows/pim/trace.py reads.

#include "Vtop.h"
#include "verilated.h"

#include <memory>

#include "pim_port.h"

#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Waves = VerilatedFstC;
#elif VM_TRACE
#include "verilated_vcd_c.h"
using Waves = VerilatedVcdC;
#endif

namespace {

using namespace heddle;
constexpr unsigned WORD = HEDDLE_WORD_BYTES, BURST = HEDDLE_BURST_BYTES;
constexpr int RESET_CYCLES = 4;

enum Stop : int32_t { DONE, HANG, DRAM, STREAM, MODEL };

struct Host {
    uint64_t seed, patience;                    // random choices; cycles without progress that are a hang
    uint32_t stall;                             // of 2³²: how often a word is held back, or not taken, in a cycle
};

struct Run {
    uint64_t cycles, active, stall_row, stall_refresh, stall_credit, stall_hazard, taken, given;
    int64_t first_read, last_read;              // DRAM clocks of the first and the last burst that was read; −1
    int32_t stop, error, index, misuse, waits_for_word;
};

struct Event {                                  // 16 bytes; flows/pim/trace.py has the same layout
    uint64_t cycle;                             // since the start of the list
    uint16_t kind, detail;
    uint32_t value;
};

// Handshakes of a queue: 0 is I/O, 1 compute. STATE is recorded when it changes, commands to the DRAM always.
enum Kind : uint16_t { ARRIVES = 0, LEAVES = 2, ENDS = 4, STATE = 6, DRAM_ROW = 7, DRAM_BANKS = 8, DRAM_COLUMN = 9 };

class Simulator {
  public:
    Dram dram;
    std::vector<uint8_t> out;
    std::vector<Event> events;                  // of the last list

    Simulator(const DramConfig& config, const DramRule* rules, int32_t count, uint8_t* memory, int32_t phases)
        : dram(config, rules, count, memory), port_(dram, phases) {
        context_.fatalOnError(false);
        context_.traceEverOn(VM_TRACE != 0);
        top_ = std::make_unique<Vtop>(&context_, "");
        top_->clk = 1;                          // so that the first evaluation is not an edge
        reset();
    }

    // Scopes of a model leave the context that this thread used last, which may be that of a simulator that is gone.
    ~Simulator() {
        Verilated::threadContextp(&context_);
#if VM_TRACE
        if (waves_) waves_->close();
        waves_.reset();
#endif
        top_.reset();
    }

    // Record waves into `file` from now on. Returns false if this build cannot or the file cannot be written.
    bool waves([[maybe_unused]] const char* file) {
#if VM_TRACE
        Verilated::threadContextp(&context_);
        waves_ = std::make_unique<Waves>();
        top_->trace(waves_.get(), 99);
        waves_->open(file);
        return waves_->isOpen();
#else
        return false;
#endif
    }

    void configure(const Host& host) {
        host_ = host;
        random_ = host.seed * 2 + 1;
    }

    // Holds reset; the DRAM keeps its contents and starts anew.
    void reset() {
        top_->rst = 1;
        top_->go = top_->write_valid = top_->host_in_valid = top_->host_out_ready = top_->rvalid = 0;
        for (int i = 0; i < RESET_CYCLES; ++i) {
            evaluate(0);
            evaluate(1);
        }
        top_->rst = 0;
        dram.reset();
        port_.reset();
    }

    // Writes a list, starts it, and runs until it has stopped.
    void run(const uint64_t* words, uint64_t count, const uint8_t* in, uint64_t in_words, Run* result) {
        Verilated::threadContextp(&context_);
        run_ = {};
        port_.first_read = port_.last_read = -1;
        out.clear();
        events.clear();
        state_ = ~0u;
        for (uint64_t address = 0; address < count && run_.stop == DONE; ++address) {
            top_->write_valid = 1;
            top_->write_address = address;
            top_->write_data = words[address];
            step();
        }
        top_->write_valid = 0;
        top_->go = 1;
        if (run_.stop == DONE) step();
        top_->go = 0;
        uint64_t idle = 0, left = in_words;
        bool offered = false, shown = false;
        std::vector<uint8_t> word(WORD);
        run_.active = run_.stall_row = run_.stall_refresh = run_.stall_credit = run_.stall_hazard = 0;
        while (run_.stop == DONE && top_->busy) {
            offered = left && (offered || !stalls());
            top_->host_in_valid = offered;
            if (offered) put(top_->host_in_data, in, WORD);
            top_->host_out_ready = !stalls();
            evaluate(0);
            const bool takes = offered && top_->host_in_ready, gives = top_->host_out_valid && top_->host_out_ready;
            run_.waits_for_word = top_->host_in_ready && !left;
            if (shown && (!top_->host_out_valid || std::memcmp(word.data(), &top_->host_out_data, WORD))) run_.stop = STREAM;
            shown = top_->host_out_valid && !gives;
            if (top_->host_out_valid) get(word.data(), top_->host_out_data, WORD);
            if (gives) out.insert(out.end(), word.begin(), word.end());
            const bool moves = takes || gives || top_->active || top_->col_valid;
            idle = moves ? 0 : idle + 1;
            if (idle >= host_.patience) run_.stop = HANG;
#ifdef HEDDLE_PIM_TRACE
            sample(takes, gives);
#endif
            finish_cycle();
            ++run_.cycles;
            if (takes) {
                in += WORD;
                --left;
                ++run_.taken;
                offered = false;
            }
        }
        top_->host_in_valid = top_->host_out_ready = 0;
        run_.given = out.size() / WORD;
        run_.first_read = port_.first_read;
        run_.last_read = port_.last_read;
        run_.error = top_->error;
        run_.index = top_->index;
        run_.misuse = top_->misuse;
        *result = run_;
    }

  private:
    Host host_{0, 1'000'000, 0};
    Run run_{};
    DramPort<Vtop, BURST> port_;
    VerilatedContext context_;
    std::unique_ptr<Vtop> top_;
    uint64_t random_ = 1;
    uint32_t state_ = ~0u;                      // that was recorded last
#if VM_TRACE
    std::unique_ptr<Waves> waves_;
    uint64_t time_ = 0;
#endif

#ifdef HEDDLE_PIM_TRACE
    void record(unsigned kind, unsigned detail, uint64_t value) {
        events.push_back({run_.cycles, static_cast<uint16_t>(kind), static_cast<uint16_t>(detail), static_cast<uint32_t>(value)});
    }

    // Notes handshakes of the queues and commands to the DRAM in this cycle, and what the channel does if it did something else
    // before.
    void sample(bool takes, bool gives) {
        if (top_->queue_i_valid && top_->queue_i_ready) record(ARRIVES + top_->queue_i_compute, 0, 0);
        const bool offered[2] = {top_->queue_io_valid != 0, top_->queue_compute_valid != 0};
        const bool ready[2] = {top_->queue_io_ready != 0, top_->queue_compute_ready != 0};
        const bool ended[2] = {top_->queue_io_done != 0, top_->queue_compute_done != 0};
        for (unsigned queue = 0; queue < 2; ++queue) {
            if (offered[queue] && ready[queue]) record(LEAVES + queue, 0, 0);
            if (ended[queue]) record(ENDS + queue, 0, 0);
        }
        const uint32_t state = top_->active | top_->stall_row << 1 | top_->stall_refresh << 2 | top_->stall_credit << 3 |
                               top_->stall_hazard << 4 | offered[0] << 5 | offered[1] << 6 | takes << 7 | gives << 8;
        if (state != state_) record(STATE, 0, state);
        state_ = state;
        const auto& config = dram.config();
        if (top_->row_valid) {
            const bool rank = top_->row_whole || top_->row_op == REF;
            record(DRAM_ROW, top_->row_op | (top_->row_set * config.streams + top_->row_bank) << 4, top_->row_row);
            record(DRAM_BANKS, 0, top_->row_op == REFSB ? 1 : rank ? config.banks / config.ranks : config.streams);
        }
        if (top_->col_valid) record(DRAM_COLUMN, top_->col_op | top_->col_set * config.streams << 4, top_->col_column);
    }
#endif

    bool stalls() {
        if (!host_.stall) return false;
        random_ = random_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(random_ >> 32) < host_.stall;
    }

    void evaluate(int clk) {
        top_->clk = clk;
        top_->eval();
#if VM_TRACE
        if (waves_) waves_->dump(time_++);
#endif
    }

    void step() {
        evaluate(0);
        finish_cycle();
    }

    // Counts, serves the DRAM port and lets the clock rise.
    void finish_cycle() {
        run_.active += top_->active;
        run_.stall_row += top_->stall_row;
        run_.stall_refresh += top_->stall_refresh;
        run_.stall_credit += top_->stall_credit;
        run_.stall_hazard += top_->stall_hazard;
        if (!port_.take(*top_) && dram.config().strict) run_.stop = ::DRAM;
        evaluate(1);
        port_.give(*top_);
        if (context_.gotError()) run_.stop = MODEL;
    }
};

Simulator* of(void* handle) { return static_cast<Simulator*>(handle); }

}  // namespace

#define HEDDLE_API extern "C" __attribute__((visibility("default")))

HEDDLE_API void* heddle_pim_create(const DramConfig* config, const DramRule* rules, int32_t count, uint8_t* memory,
                                   int32_t phases) {
    return new Simulator(*config, rules, count, memory, phases);
}
HEDDLE_API void heddle_pim_destroy(void* handle) { delete of(handle); }
HEDDLE_API void heddle_pim_configure(void* handle, const Host* host) { of(handle)->configure(*host); }
HEDDLE_API void heddle_pim_reset(void* handle) { of(handle)->reset(); }
HEDDLE_API void heddle_pim_run(void* handle, const uint64_t* words, uint64_t count, const uint8_t* in, uint64_t in_words,
                               Run* result) {
    of(handle)->run(words, count, in, in_words, result);
}
HEDDLE_API const uint8_t* heddle_pim_out(void* handle) { return of(handle)->out.data(); }
HEDDLE_API void heddle_pim_said(void* handle, DramViolation* into) { *into = of(handle)->dram.said; }
HEDDLE_API const uint64_t* heddle_pim_violations(void* handle) { return of(handle)->dram.violations.data(); }
HEDDLE_API const uint64_t* heddle_pim_counts(void* handle) { return of(handle)->dram.counts.data(); }
HEDDLE_API int heddle_pim_waves(void* handle, const char* file) { return of(handle)->waves(file); }
HEDDLE_API uint64_t heddle_pim_event_count(void* handle) { return of(handle)->events.size(); }
HEDDLE_API const Event* heddle_pim_events(void* handle) { return of(handle)->events.data(); }
