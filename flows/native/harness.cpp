// The accelerator's Verilator model, a memory behind its bus master and a driver for its registers, behind a C interface.
//
// Compiled with HEDDLE_BUS_BYTES (bytes of a beat), and HEDDLE_TRACE when the signals that trace.h reads are public. A cycle is
// two evaluations: the inputs settle while the clock is low, then the clock rises.

#include "Vtop.h"
#include "Vtop___024root.h"
#include "Vtop__state.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
#elif VM_TRACE
#include "verilated_vcd_c.h"
#endif

#include <memory>

#include "memory.h"
#ifdef HEDDLE_TRACE
#include "trace.h"
#endif

namespace {

using namespace heddle;
constexpr unsigned BYTES = HEDDLE_BUS_BYTES;
constexpr int RESET_CYCLES = 4;
constexpr int LITE_TIMEOUT = 10000;  // cycles

enum Stop { LIMIT = 0, INTERRUPT = 1, VIOLATION = 2 };
constexpr int LITE_TIMED_OUT = -1, LITE_VIOLATION = -2;  // instead of an AXI response

#if VM_TRACE_FST
using Waves = VerilatedFstC;
#elif VM_TRACE
using Waves = VerilatedVcdC;
#endif

// Ports are integers up to 64 bits and arrays of words above.
template <typename T> void get(uint8_t* bytes, const T& port) { std::memcpy(bytes, &port, BYTES); }
template <typename T> void put(T& port, const uint8_t* bytes) { std::memcpy(&port, bytes, BYTES); }

struct Snapshot {
    Memory<BYTES> memory;
    uint64_t cycle;
    std::vector<uint8_t> state, dram;
};

class Simulator {
  public:
    Memory<BYTES> memory;
    uint64_t cycle = 0;
#ifdef HEDDLE_TRACE
    Trace trace;
#endif

    Simulator(uint8_t* data, uint64_t bytes, const Timing& timing) : memory(data, bytes), dram_(data), dram_bytes_(bytes) {
        memory.configure(timing);
        context_.traceEverOn(VM_TRACE != 0);
        context_.fatalOnError(false);
        top_ = std::make_unique<Vtop>(&context_, "");
        top_->clk = 1;  // so that the first evaluation is not an edge
    }

    ~Simulator() { waves(nullptr); }

    void reset() {
        top_->rst = 1;
        memory.out = {};
        drive();
        for (int i = 0; i < RESET_CYCLES; ++i) {
            evaluate(0);
            sample();
            evaluate(1);
            ++cycle;
        }
        memory.reset(cycle, side_);
        top_->rst = 0;
    }

    Stop run(uint64_t cycles) {
        for (uint64_t i = 0; i < cycles; ++i) {
            if (top_->irq) return INTERRUPT;
            step();
            if (!memory.violation.empty()) return VIOLATION;
        }
        return top_->irq ? INTERRUPT : LIMIT;
    }

    int lite_write(uint32_t addr, uint32_t value) {
        bool address = false, data = false;
        top_->s_axil_awaddr = addr;
        top_->s_axil_wdata = value;
        top_->s_axil_wstrb = 15;
        for (int i = 0; i < LITE_TIMEOUT; ++i) {
            top_->s_axil_awvalid = !address && (top_->s_axil_awvalid || !memory.stalls());
            top_->s_axil_wvalid = !data && (top_->s_axil_wvalid || !memory.stalls());
            top_->s_axil_bready = !memory.stalls();
            step();
            if (!memory.violation.empty()) return LITE_VIOLATION;
            address |= lite_.awready && top_->s_axil_awvalid;
            data |= lite_.wready && top_->s_axil_wvalid;
            if (lite_.bvalid && top_->s_axil_bready) {
                if (!address || !data) memory.complain(cycle, "s_axil answers a write before it has taken it");
                top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_bready = 0;
                return memory.violation.empty() ? lite_.bresp : LITE_VIOLATION;
            }
        }
        return LITE_TIMED_OUT;
    }

    int lite_read(uint32_t addr, uint32_t* value) {
        bool address = false;
        top_->s_axil_araddr = addr;
        for (int i = 0; i < LITE_TIMEOUT; ++i) {
            top_->s_axil_arvalid = !address && (top_->s_axil_arvalid || !memory.stalls());
            top_->s_axil_rready = !memory.stalls();
            step();
            if (!memory.violation.empty()) return LITE_VIOLATION;
            address |= lite_.arready && top_->s_axil_arvalid;
            if (lite_.rvalid && top_->s_axil_rready) {
                if (!address) memory.complain(cycle, "s_axil answers a read before it has taken it");
                top_->s_axil_arvalid = top_->s_axil_rready = 0;
                *value = lite_.rdata;
                return memory.violation.empty() ? lite_.rresp : LITE_VIOLATION;
            }
        }
        return LITE_TIMED_OUT;
    }

    // Record waves into `file` from now on, or stop when it is null. Returns false if this build cannot or the file cannot be written.
    bool waves(const char* file) {
#if VM_TRACE
        if (waves_) {
            waves_->close();
            waves_.reset();
        }
        if (!file) return true;
        waves_ = std::make_unique<Waves>();
        top_->trace(waves_.get(), 99);
        waves_->open(file);
        return waves_->isOpen();
#else
        return file == nullptr;
#endif
    }

    Snapshot* snapshot() const {
        auto* found = new Snapshot{memory, cycle, {}, {dram_, dram_ + dram_bytes_}};
        each_state(*top_->rootp->vlSymsp, [&](const uint8_t* instance, size_t first, size_t end) {
            found->state.insert(found->state.end(), instance + first, instance + end);
        });
        return found;
    }

    void restore(const Snapshot& from) {
        memory = from.memory;
        cycle = from.cycle;
        const uint8_t* state = from.state.data();
        each_state(*top_->rootp->vlSymsp, [&](uint8_t* instance, size_t first, size_t end) {
            std::memcpy(instance + first, state, end - first);
            state += end - first;
        });
        std::memcpy(dram_, from.dram.data(), dram_bytes_);
    }

  private:
    struct Lite {  // what the slave drove in the cycle that has just passed
        bool awready, wready, bvalid, arready, rvalid;
        uint8_t bresp, rresp;
        uint32_t rdata;
    };

    uint8_t* dram_;
    uint64_t dram_bytes_;
    VerilatedContext context_;
    std::unique_ptr<Vtop> top_;
    MasterSide<BYTES> side_{};
    Lite lite_{};
#if VM_TRACE
    std::unique_ptr<Waves> waves_;
#endif

    void evaluate(int clk) {
        top_->clk = clk;
        top_->eval();
#if VM_TRACE
        if (waves_) waves_->dump(2 * cycle + clk);
#endif
    }

    void step() {
        drive();
        evaluate(0);
        sample();
#ifdef HEDDLE_TRACE
        if (trace.enabled) trace.sample(cycle, *top_->rootp);
#endif
        memory.step(cycle, side_);
        evaluate(1);
        ++cycle;
        if (context_.gotError()) memory.complain(cycle, "the model stopped: an assertion failed");
    }

    void drive() {
        const auto& out = memory.out;
        top_->m_axi_arready = out.arready;
        top_->m_axi_rvalid = out.rvalid;
        if (out.rvalid) {
            top_->m_axi_rid = out.rid;
            top_->m_axi_rresp = out.rresp;
            top_->m_axi_rlast = out.rlast;
            put(top_->m_axi_rdata, out.rdata);
        }
        top_->m_axi_awready = out.awready;
        top_->m_axi_wready = out.wready;
        top_->m_axi_bvalid = out.bvalid;
        top_->m_axi_bid = out.bid;
        top_->m_axi_bresp = out.bresp;
    }

    void sample() {
        side_.arvalid = top_->m_axi_arvalid;
        side_.awvalid = top_->m_axi_awvalid;
        side_.wvalid = top_->m_axi_wvalid;
        side_.rready = top_->m_axi_rready;
        side_.bready = top_->m_axi_bready;
        if (side_.arvalid) {
            side_.ar = {top_->m_axi_araddr, top_->m_axi_arid, top_->m_axi_arlen, top_->m_axi_arsize, top_->m_axi_arburst,
                        top_->m_axi_arcache, top_->m_axi_arprot};
        }
        if (side_.awvalid) {
            side_.aw = {top_->m_axi_awaddr, top_->m_axi_awid, top_->m_axi_awlen, top_->m_axi_awsize, top_->m_axi_awburst,
                        top_->m_axi_awcache, top_->m_axi_awprot};
        }
        if (side_.wvalid) {
            get(side_.w.data, top_->m_axi_wdata);
            side_.w.strobe = top_->m_axi_wstrb;
            side_.w.last = top_->m_axi_wlast;
        }
        lite_ = {static_cast<bool>(top_->s_axil_awready), static_cast<bool>(top_->s_axil_wready),
                 static_cast<bool>(top_->s_axil_bvalid), static_cast<bool>(top_->s_axil_arready),
                 static_cast<bool>(top_->s_axil_rvalid), top_->s_axil_bresp, top_->s_axil_rresp, top_->s_axil_rdata};
    }
};

Simulator* of(void* handle) { return static_cast<Simulator*>(handle); }

}  // namespace

#define HEDDLE_API extern "C" __attribute__((visibility("default")))

HEDDLE_API void* heddle_create(uint8_t* data, uint64_t bytes, const Timing* timing) {
    auto* simulator = new Simulator(data, bytes, *timing);
    simulator->reset();
    return simulator;
}
HEDDLE_API void heddle_destroy(void* handle) { delete of(handle); }
HEDDLE_API void heddle_reset(void* handle) { of(handle)->reset(); }
HEDDLE_API void heddle_configure(void* handle, const Timing* timing) { of(handle)->memory.configure(*timing); }
HEDDLE_API int heddle_run(void* handle, uint64_t cycles) { return of(handle)->run(cycles); }
HEDDLE_API int heddle_write(void* handle, uint32_t addr, uint32_t value) { return of(handle)->lite_write(addr, value); }
HEDDLE_API int heddle_read(void* handle, uint32_t addr, uint32_t* value) { return of(handle)->lite_read(addr, value); }
HEDDLE_API uint64_t heddle_cycle(void* handle) { return of(handle)->cycle; }
HEDDLE_API uint64_t heddle_beats(void* handle, int writes) {
    return writes ? of(handle)->memory.write_beats : of(handle)->memory.read_beats;
}
HEDDLE_API const char* heddle_violation(void* handle) { return of(handle)->memory.violation.c_str(); }
HEDDLE_API void heddle_inject(void* handle, uint64_t first, uint64_t last, int on_read, int on_write, int response) {
    of(handle)->memory.faults.push_back({first, last, static_cast<uint8_t>(on_read), static_cast<uint8_t>(on_write),
                                         static_cast<uint8_t>(response)});
}
HEDDLE_API void heddle_clear_injections(void* handle) { of(handle)->memory.faults.clear(); }
HEDDLE_API void heddle_log(void* handle, int enable) {
    of(handle)->memory.logging = enable != 0;
    of(handle)->memory.log.clear();
}
HEDDLE_API uint64_t heddle_log_size(void* handle) { return of(handle)->memory.log.size(); }
HEDDLE_API const WriteRecord* heddle_log_data(void* handle) { return of(handle)->memory.log.data(); }
#ifdef HEDDLE_TRACE
HEDDLE_API void heddle_trace(void* handle, int enable) {
    of(handle)->trace.enabled = enable != 0;
    of(handle)->trace.clear();
}
HEDDLE_API uint64_t heddle_trace_size(void* handle) { return of(handle)->trace.events.size(); }
HEDDLE_API const TraceEvent* heddle_trace_data(void* handle) { return of(handle)->trace.events.data(); }
#endif
HEDDLE_API int heddle_waves(void* handle, const char* file) { return of(handle)->waves(file); }
HEDDLE_API void* heddle_snapshot(void* handle) { return of(handle)->snapshot(); }
HEDDLE_API uint8_t* heddle_state(void* snapshot, uint64_t* size) {
    auto& state = static_cast<Snapshot*>(snapshot)->state;
    *size = state.size();
    return state.data();
}
HEDDLE_API void heddle_restore(void* handle, const void* from) { of(handle)->restore(*static_cast<const Snapshot*>(from)); }
HEDDLE_API void heddle_free_snapshot(void* from) { delete static_cast<Snapshot*>(from); }
