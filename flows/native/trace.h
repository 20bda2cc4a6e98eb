// What the units do, cycle by cycle: the controller's handshakes of each cycle become events, kept only where something changes.
//
// Needs a model whose signals of flows/build.py's TRACED are public: they are members of its root.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace heddle {

struct TraceEvent {  // 16 bytes; flows/native_sim.py has the same layout
    uint64_t cycle;
    uint16_t channel;
    uint16_t mask;
    uint32_t value;
};

// Channels 0 to 3 tell a unit's state, 4 to 15 handshakes of its queue; a state is recorded when it changes, a handshake always.
enum Channel : uint16_t { STATE = 0, QUEUED = 4, TAKEN = 8, DONE = 12, SEQUENCER = 16, FETCH = 17, RUN = 18, CHANNELS = 19 };

// What the sequencer does in a cycle.
enum Doing : uint32_t { OFF, STARTING, EXECUTING, WAITING, QUEUE_FULL, DRAINING, FETCHING, BUBBLE, STOPPING };

class Trace {
  public:
    std::vector<TraceEvent> events;
    bool enabled = false;

    void clear() {
        events.clear();
        for (uint64_t& state : last_) state = ~0ull;
    }

    template <typename Root> void sample(uint64_t cycle, const Root& top) {
// Verilator writes two underscores of a name as ___05F.
#define HEDDLE_SIGNAL(name) top.heddle__DOT__controller__DOT__##name
        const bool running = HEDDLE_SIGNAL(supervisor___05Fbusy), run = HEDDLE_SIGNAL(supervisor___05Frun);
        change(cycle, RUN, running | HEDDLE_SIGNAL(supervisor___05Ferror) << 1, 0);
        if (!running && !was_running_) return;
        was_running_ = running;

        uint8_t counts[16];
        std::memcpy(counts, &HEDDLE_SIGNAL(semaphores___05Fcounts), sizeof counts);
        uint16_t empty = 0;
        for (unsigned i = 0; i < 16; ++i) empty |= (counts[i] == 0) << i;
        const uint32_t pc = HEDDLE_SIGNAL(sequencer___05Fpc);
        uint32_t stuck = 0;  // 1 + the unit whose queue has no room for the command that the sequencer hands over

#define HEDDLE_UNIT(index, unit, activity)                                                                                      \
    {                                                                                                                           \
        const bool waiting = HEDDLE_SIGNAL(unit##_queue___05Fwaiting);                                                              \
        change(cycle, STATE + index,                                                                                            \
               HEDDLE_SIGNAL(unit##___05Fbusy) | HEDDLE_SIGNAL(activity) << 1 | waiting << 2 | HEDDLE_SIGNAL(unit##_queue___05Fcount) << 8, \
               waiting ? HEDDLE_SIGNAL(unit##_queue___05Facquire___05Fmask) & empty : 0);                                               \
        if (HEDDLE_SIGNAL(unit##_queue___05Fi___05Fvalid)) {                                                                            \
            if (HEDDLE_SIGNAL(unit##_queue___05Fi___05Fready)) record(cycle, QUEUED + index, pc, 0);                                    \
            else stuck = 1 + index;                                                                                             \
        }                                                                                                                       \
        if (HEDDLE_SIGNAL(unit##___05Fcommand___05Fvalid) && HEDDLE_SIGNAL(unit##___05Fcommand___05Fready)) record(cycle, TAKEN + index, 0, 0); \
        if (run && HEDDLE_SIGNAL(unit##___05Fdone)) record(cycle, DONE + index, HEDDLE_SIGNAL(unit##_queue___05Foldest_pc), 0);         \
    }
        HEDDLE_UNIT(0, load, load_beat)
        HEDDLE_UNIT(1, matrix, matrix_active)
        HEDDLE_UNIT(2, vector, vector_write)
        HEDDLE_UNIT(3, store, store_beat)
#undef HEDDLE_UNIT

        const bool waits = HEDDLE_SIGNAL(sequencer___05Fwaiting), executes = HEDDLE_SIGNAL(sequencer___05Fexecuted);
        // A FENCE or HALT that waits has left the fetch's place; where the two are the same, nothing is being executed.
        const bool held = pc != HEDDLE_SIGNAL(fetch___05Finstruction___05Fpc);
        const Doing doing = !running                                ? OFF
                            : HEDDLE_SIGNAL(sequencer___05Fstarting) ? STARTING
                            : !run                                  ? STOPPING
                            : executes                              ? EXECUTING
                            : waits                                 ? WAITING
                            : stuck                                 ? QUEUE_FULL
                            : held                                  ? DRAINING
                            : !HEDDLE_SIGNAL(fetch___05Finstruction___05Fhit) ? FETCHING
                                                                    : BUBBLE;
        const uint16_t why = doing == WAITING ? HEDDLE_SIGNAL(sequencer___05Facquire___05Fmask) & empty : doing == QUEUE_FULL ? stuck - 1 : 0;
        if (doing != doing_ || (doing != EXECUTING && doing != BUBBLE && (pc != pc_ || why != why_)))
            record(cycle, SEQUENCER, pc << 4 | doing, why);
        doing_ = doing, pc_ = pc, why_ = why;
        change(cycle, FETCH, HEDDLE_SIGNAL(fetch___05Fbusy) | HEDDLE_SIGNAL(fetch___05Fbeat) << 1, 0);
#undef HEDDLE_SIGNAL
    }

  private:
    uint64_t last_[CHANNELS] = {};
    bool was_running_ = false;
    uint32_t doing_ = OFF, pc_ = 0;
    uint16_t why_ = 0;

    void record(uint64_t cycle, unsigned channel, uint32_t value, uint16_t mask) {
        events.push_back({cycle, static_cast<uint16_t>(channel), mask, value});
    }

    void change(uint64_t cycle, unsigned channel, uint32_t value, uint16_t mask) {
        const uint64_t state = static_cast<uint64_t>(mask) << 32 | value;
        if (state == last_[channel]) return;
        last_[channel] = state;
        record(cycle, channel, value, mask);
    }
};

}  // namespace heddle
