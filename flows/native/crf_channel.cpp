// HBM-PIM's pseudo-channel (hw.pim.crf_channel) as a Verilator model, its DRAM behind it and a host before it, behind a C interface.
//
// Compiled with HEDDLE_DRAM_COMMANDS (see pim_dram.h), HEDDLE_ACCESS_BYTES (a host's command) and HEDDLE_BURST_BYTES (a burst of
// all units). A cycle is two evaluations: the inputs settle while the clock is low, then the clock rises.

#include "Vtop.h"
#include "verilated.h"

#include <memory>

#include "pim_port.h"

namespace {

using namespace heddle;
constexpr unsigned ACCESS = HEDDLE_ACCESS_BYTES, BURST = HEDDLE_BURST_BYTES, READ = 32;
constexpr int RESET_CYCLES = 4;
constexpr int SETTLED = 4;                      // idle cycles behind the last command, in which its last pulses come
enum Stop : int32_t { DONE, HANG, DRAM, MODEL };

struct Host {
    uint64_t seed, patience;                    // random choices; cycles without progress that are a hang
    uint32_t stall;                             // of 2³²: how often a command is held back in a cycle
};

struct Refusal {
    uint64_t access;                            // its number
    int32_t fault, unused;
};

struct Run {
    uint64_t cycles, taken, executed, reads, refusals;
    int64_t first_read, last_read;              // DRAM clocks
    int32_t stop, unused;
};

class Simulator {
  public:
    Dram dram;
    std::vector<uint8_t> reads;
    std::vector<Refusal> refusals;

    Simulator(const DramConfig& config, const DramRule* rules, int32_t count, uint8_t* memory, int32_t phases, const Host& host)
        : dram(config, rules, count, memory), host_(host), port_(dram, phases), random_(host.seed * 2 + 1) {
        context_.fatalOnError(false);
        top_ = std::make_unique<Vtop>(&context_, "");
        top_->clk = 1;                          // so that the first evaluation is not an edge
        reset();
    }

    // Scopes of a model leave the context that this thread used last, which may be that of a simulator that is gone.
    ~Simulator() {
        Verilated::threadContextp(&context_);
        top_.reset();
    }

    void reset() {
        top_->rst = 1;
        top_->i_valid = top_->rvalid = 0;
        for (int i = 0; i < RESET_CYCLES; ++i) {
            evaluate(0);
            evaluate(1);
        }
        top_->rst = 0;
        dram.reset();
        port_.reset();
    }

    // Offers all commands, and runs until nothing is under way any more; `cycles` ends with that.
    void run(const uint8_t* accesses, uint64_t count, Run* result) {
        Verilated::threadContextp(&context_);
        Run run{};
        port_.first_read = port_.last_read = -1;
        reads.clear();
        refusals.clear();
        uint64_t waiting = 0, idle = 0;
        bool offered = false;
        while (run.stop == DONE && idle < SETTLED) {
            offered = run.taken < count && (offered || !stalls());
            top_->i_valid = offered;
            if (offered) put(top_->i_payload, accesses + ACCESS * run.taken, ACCESS);
            evaluate(0);
            const bool takes = offered && top_->i_ready;
            if (top_->host_rvalid) {
                reads.resize(reads.size() + READ);
                get(&reads[reads.size() - READ], top_->host_rdata, READ);
            }
            if (top_->refused) refusals.push_back({run.taken - 1, static_cast<int32_t>(top_->fault), 0});
            run.executed += top_->executed;
            idle = run.taken == count && top_->idle ? idle + 1 : 0;
            waiting = takes || top_->col_valid || idle ? 0 : waiting + 1;
            if (waiting >= host_.patience) run.stop = HANG;
            if (!port_.take(*top_) && dram.config().strict) run.stop = ::DRAM;
            evaluate(1);
            port_.give(*top_);
            if (context_.gotError()) run.stop = MODEL;
            run.taken += takes;
            run.cycles += !idle;
            offered &= !takes;
        }
        top_->i_valid = 0;
        run.reads = reads.size() / READ;
        run.refusals = refusals.size();
        run.first_read = port_.first_read;
        run.last_read = port_.last_read;
        *result = run;
    }

  private:
    Host host_;
    DramPort<Vtop, BURST> port_;
    uint64_t random_;
    VerilatedContext context_;
    std::unique_ptr<Vtop> top_;

    bool stalls() {
        if (!host_.stall) return false;
        random_ = random_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(random_ >> 32) < host_.stall;
    }

    void evaluate(int clk) {
        top_->clk = clk;
        top_->eval();
    }
};

Simulator* of(void* handle) { return static_cast<Simulator*>(handle); }

}  // namespace

#define HEDDLE_API extern "C" __attribute__((visibility("default")))

HEDDLE_API void* heddle_crf_create(const DramConfig* config, const DramRule* rules, int32_t count, uint8_t* memory,
                                   int32_t phases, const Host* host) {
    return new Simulator(*config, rules, count, memory, phases, *host);
}
HEDDLE_API void heddle_crf_destroy(void* handle) { delete of(handle); }
HEDDLE_API void heddle_crf_run(void* handle, const uint8_t* accesses, uint64_t count, Run* result) {
    of(handle)->run(accesses, count, result);
}
HEDDLE_API const uint8_t* heddle_crf_reads(void* handle) { return of(handle)->reads.data(); }
HEDDLE_API const Refusal* heddle_crf_refusals(void* handle) { return of(handle)->refusals.data(); }
HEDDLE_API void heddle_crf_said(void* handle, DramViolation* into) { *into = of(handle)->dram.said; }
HEDDLE_API const uint64_t* heddle_crf_counts(void* handle) { return of(handle)->dram.counts.data(); }
