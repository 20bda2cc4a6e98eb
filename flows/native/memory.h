// An AXI4 memory as the accelerator's master sees it: latency, bandwidth, random back-pressure, injected errors, and the
// rules of the bus. Everything it drives is decided before a cycle begins, from what happened in the cycles before.
#ifndef HEDDLE_MEMORY_H
#define HEDDLE_MEMORY_H

#include <cinttypes>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

namespace heddle {

enum Response : uint8_t { OKAY = 0, SLVERR = 2, DECERR = 3 };

// Mirrored in native_sim.py.
struct Timing {
    uint64_t seed;        // of every random choice
    uint32_t latency;     // cycles from the AR handshake to the first beat, and from the last W beat to the response
    uint32_t bandwidth;   // beats per cycle in each direction, in 1/65536
    uint32_t stall;       // probability, in 1/2^32, that a channel holds back in a cycle in which it need not
    uint32_t interleave;  // 1: beats of bursts with different ids come in random turns
};

// Mirrored in native_sim.py.
struct WriteRecord {
    uint64_t cycle;
    uint64_t addr;
    uint64_t strobe;
    uint8_t data[64];
};

struct Fault {
    uint64_t first, last;
    uint8_t on_read, on_write, response;
};

class Random {  // xorshift64*
  public:
    void seed(uint64_t value) { state_ = value * 0x9E3779B97F4A7C15ull + 0x2545F4914F6CDD1Dull; if (!state_) state_ = 1; }
    uint32_t next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return static_cast<uint32_t>((state_ * 0x2545F4914F6CDD1Dull) >> 32);
    }

  private:
    uint64_t state_ = 1;
};

struct AddressBeat {
    uint32_t addr;
    uint8_t id, len, size, burst, cache, prot;
    bool operator==(const AddressBeat& o) const {
        return addr == o.addr && id == o.id && len == o.len && size == o.size && burst == o.burst && cache == o.cache
               && prot == o.prot;
    }
};

template <unsigned BYTES> struct WriteBeat {
    alignas(8) uint8_t data[BYTES];
    uint64_t strobe;
    bool last;
    bool operator==(const WriteBeat& o) const {
        return strobe == o.strobe && last == o.last && !std::memcmp(data, o.data, BYTES);
    }
};

// What the master drives in one cycle.
template <unsigned BYTES> struct MasterSide {
    bool arvalid, awvalid, wvalid, rready, bready;
    AddressBeat ar, aw;
    WriteBeat<BYTES> w;
};

// What the memory drives in one cycle.
template <unsigned BYTES> struct MemorySide {
    bool arready = false, rvalid = false, rlast = false, awready = false, wready = false, bvalid = false;
    uint8_t rid = 0, rresp = 0, bid = 0, bresp = 0;
    alignas(8) uint8_t rdata[BYTES] = {};
};

template <unsigned BYTES> class Memory {
  public:
    static constexpr unsigned IDS = 2;
    static constexpr unsigned QUEUE = 64;        // bursts of each direction that it accepts ahead
    static constexpr uint32_t ONE = 1u << 16;    // one beat of credit

    MemorySide<BYTES> out;
    uint64_t read_beats = 0, write_beats = 0;
    bool logging = false;
    std::vector<WriteRecord> log;
    std::vector<Fault> faults;
    std::string violation;                       // the first broken rule

    Memory(uint8_t* data, uint64_t bytes) : data_(data), bytes_(bytes) {}

    void configure(const Timing& timing) {
        timing_ = timing;
        random_.seed(timing.seed);
    }

    bool chance(uint32_t probability) { return probability && random_.next() < probability; }
    bool stalls() { return chance(timing_.stall); }

    void complain(uint64_t cycle, const char* format, ...) __attribute__((format(printf, 3, 4))) {
        if (!violation.empty()) return;
        char text[256];
        va_list args;
        va_start(args, format);
        std::vsnprintf(text, sizeof text, format, args);
        va_end(args);
        violation = "cycle " + std::to_string(cycle) + ": " + text;
    }

    // Take the handshakes of cycle `now`, then decide what to drive in the next.
    void step(uint64_t now, const MasterSide<BYTES>& m) {
        check_stable(now, m);
        if (m.arvalid && out.arready) accept_read(now, m.ar);
        if (m.awvalid && out.awready) accept_write(now, m.aw);
        if (m.wvalid && out.wready) write(now, m.w);
        if (out.rvalid && m.rready) { out.rvalid = false; ++read_beats; }
        if (out.bvalid && m.bready) out.bvalid = false;
        earn(read_credit_);
        earn(write_credit_);
        if (!out.rvalid && read_credit_ >= ONE && !stalls()) offer_read(now + 1);
        if (!out.bvalid && !responses_.empty() && responses_.front().ready <= now + 1 && !stalls()) {
            out.bvalid = true;
            out.bid = responses_.front().id;
            out.bresp = responses_.front().response;
            responses_.pop_front();
        }
        out.arready = reads_ < QUEUE && !stalls();
        out.awready = writes_.size() + responses_.size() < QUEUE && !stalls();
        out.wready = !writes_.empty() && write_credit_ >= ONE && !stalls();
    }

    // Forget every transaction, as a reset does. A master keeps its valids low meanwhile.
    void reset(uint64_t now, const MasterSide<BYTES>& m) {
        for (auto& queue : queues_) queue.clear();
        writes_.clear();
        responses_.clear();
        reads_ = 0;
        current_ = -1;
        ar_waits_ = aw_waits_ = w_waits_ = false;
        out = {};
        if (m.arvalid) complain(now, "ARVALID is high during reset");
        if (m.awvalid) complain(now, "AWVALID is high during reset");
        if (m.wvalid) complain(now, "WVALID is high during reset");
    }

  private:
    struct Burst {
        uint64_t addr, ready, order;
        unsigned beats;
        uint8_t id, response;
    };
    struct Answer {
        uint64_t ready;
        uint8_t id, response;
    };

    uint8_t* data_;
    uint64_t bytes_;
    Timing timing_{};
    Random random_;
    std::deque<Burst> queues_[IDS];  // reads, in order within an id
    std::deque<Burst> writes_;
    std::deque<Answer> responses_;
    uint64_t order_ = 0;
    unsigned reads_ = 0;
    int current_ = -1;               // id of the read burst that is under way, when not interleaving
    uint32_t read_credit_ = ONE, write_credit_ = ONE;
    bool ar_waits_ = false, aw_waits_ = false, w_waits_ = false;
    AddressBeat ar_{}, aw_{};
    WriteBeat<BYTES> w_{};

    void earn(uint32_t& credit) {
        credit += timing_.bandwidth;
        if (credit > 2 * ONE - 1) credit = 2 * ONE - 1;  // an idle memory saves up less than one extra beat
    }

    template <typename T> void check_channel(uint64_t now, const char* name, bool& waits, T& before, bool valid, bool ready,
                                             const T& payload) {
        if (waits) {
            if (!valid) complain(now, "%sVALID fell before %sREADY", name, name);
            else if (!(payload == before)) complain(now, "%s payload changed while waiting for %sREADY", name, name);
        }
        waits = valid && !ready;
        if (waits) before = payload;
    }

    void check_stable(uint64_t now, const MasterSide<BYTES>& m) {
        check_channel(now, "AR", ar_waits_, ar_, m.arvalid, out.arready, m.ar);
        check_channel(now, "AW", aw_waits_, aw_, m.awvalid, out.awready, m.aw);
        check_channel(now, "W", w_waits_, w_, m.wvalid, out.wready, m.w);
    }

    void check_address(uint64_t now, const char* name, const AddressBeat& a) {
        const uint64_t bytes = (a.len + 1ull) * BYTES;
        if (a.burst != 1) complain(now, "%sBURST is %u at 0x%08" PRIx32 ", only INCR (1) is served", name, a.burst, a.addr);
        else if ((1u << a.size) != BYTES) complain(now, "%sSIZE is %u bytes at 0x%08" PRIx32 ", the bus has %u", name,
                                                   1u << a.size, a.addr, BYTES);
        else if (a.addr % BYTES) complain(now, "%sADDR 0x%08" PRIx32 " is not a multiple of the beat (%u)", name, a.addr, BYTES);
        else if ((a.addr & 4095u) + bytes > 4096) complain(now, "%s burst of %" PRIu64 " bytes at 0x%08" PRIx32
                                                           " crosses a 4 KiB boundary", name, bytes, a.addr);
        else if (a.id >= IDS) complain(now, "%sID is %u, the memory knows %u ids", name, a.id, IDS);
    }

    void accept_read(uint64_t now, const AddressBeat& a) {
        check_address(now, "AR", a);
        if (a.id >= IDS) return;
        queues_[a.id].push_back({a.addr, now + timing_.latency, order_++, a.len + 1u, a.id, OKAY});
        ++reads_;
    }

    void accept_write(uint64_t now, const AddressBeat& a) {
        check_address(now, "AW", a);
        writes_.push_back({a.addr, 0, 0, a.len + 1u, a.id, OKAY});
    }

    uint8_t response(uint64_t addr, bool is_write) const {
        if (addr + BYTES > bytes_) return DECERR;
        for (const Fault& fault : faults) {
            if (addr + BYTES > fault.first && addr <= fault.last && (is_write ? fault.on_write : fault.on_read)) return fault.response;
        }
        return OKAY;
    }

    void write(uint64_t now, const WriteBeat<BYTES>& w) {
        Burst& burst = writes_.front();
        ++write_beats;
        write_credit_ -= ONE;
        const uint8_t answer = response(burst.addr, true);
        if (answer == OKAY) {
            for (unsigned i = 0; i < BYTES; ++i) {
                if (w.strobe >> i & 1) data_[burst.addr + i] = w.data[i];
            }
        } else {
            burst.response = answer;
        }
        if (logging) {
            WriteRecord record{now, burst.addr, w.strobe, {}};
            std::memcpy(record.data, w.data, BYTES);
            log.push_back(record);
        }
        burst.addr += BYTES;
        --burst.beats;
        if (w.last != (burst.beats == 0)) {
            complain(now, "WLAST is %d with %u beats of the burst to come", w.last, burst.beats);
        }
        if (burst.beats == 0) {
            responses_.push_back({now + timing_.latency, burst.id, burst.response});
            writes_.pop_front();
        }
    }

    int choose_read(uint64_t cycle) {
        if (current_ >= 0) return current_;
        int chosen = -1;
        for (unsigned id = 0; id < IDS; ++id) {
            if (queues_[id].empty() || queues_[id].front().ready > cycle) continue;
            if (chosen < 0) chosen = static_cast<int>(id);
            else if (timing_.interleave ? random_.next() & 1 : queues_[id].front().order < queues_[chosen].front().order) {
                chosen = static_cast<int>(id);
            }
        }
        return chosen;
    }

    void offer_read(uint64_t cycle) {
        const int id = choose_read(cycle);
        if (id < 0) return;
        Burst& burst = queues_[id].front();
        read_credit_ -= ONE;
        out.rvalid = true;
        out.rid = burst.id;
        out.rresp = response(burst.addr, false);
        if (out.rresp == OKAY) std::memcpy(out.rdata, data_ + burst.addr, BYTES);
        else std::memset(out.rdata, 0xA5, BYTES);
        burst.addr += BYTES;
        --burst.beats;
        out.rlast = burst.beats == 0;
        current_ = timing_.interleave || out.rlast ? -1 : id;
        if (out.rlast) {
            queues_[id].pop_front();
            --reads_;
        }
    }
};

}  // namespace heddle
#endif
