// The Verilator model of a board, its link driven from outside, behind a C interface.
//
// Compiled with HEDDLE_DIVISOR: cycles of a bit on the UART, or 0 for a board with AXI4-Stream ports.

#include "Vtop.h"
#include "verilated.h"

#include <cstdint>
#include <deque>
#include <memory>

#define HEDDLE_API extern "C" __attribute__((visibility("default")))

namespace {

struct Board {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    std::deque<uint8_t> to_board, from_board;
    uint64_t cycle = 0;
    uint64_t framing_errors = 0;

    Board() {
        context.fatalOnError(false);
        top = std::make_unique<Vtop>(&context, "");
        top->clk = 1;  // so that the first evaluation is not an edge
        top->rst = 1;
        idle();
        for (int i = 0; i < 4; ++i) tick();
        top->rst = 0;
    }

    void low() {
        top->clk = 0;
        top->eval();
    }

    void high() {
        top->clk = 1;
        top->eval();
        ++cycle;
    }

    void tick() {
        low();
        high();
    }

#if HEDDLE_DIVISOR
    uint32_t sending = 1, send_bits = 0, send_timer = 0;  // bits still on the line, lowest first
    uint32_t receiving = 0, receive_bits = 0, receive_timer = 0;

    void idle() { top->rx = 1; }

    void step() {
        if (send_bits == 0 && !to_board.empty()) {
            sending = (to_board.front() << 1) | 0x200;
            send_bits = 10;
            send_timer = HEDDLE_DIVISOR;
            to_board.pop_front();
        }
        top->rx = send_bits ? sending & 1 : 1;
        if (send_bits && --send_timer == 0) {
            sending >>= 1;
            --send_bits;
            send_timer = HEDDLE_DIVISOR;
        }
        low();
        if (receive_bits == 0) {
            if (!top->tx) {
                receive_bits = 10;
                receive_timer = HEDDLE_DIVISOR / 2 + 1;
            }
        }
        if (receive_bits && --receive_timer == 0) {
            receiving = receiving >> 1 | (top->tx ? 0x200 : 0);
            receive_timer = HEDDLE_DIVISOR;
            if (--receive_bits == 0) {
                if ((receiving & 0x201) == 0x200) from_board.push_back(receiving >> 1 & 0xFF);
                else ++framing_errors;
            }
        }
        high();
    }
#else
    void idle() {
        top->s_axis_tvalid = 0;
        top->m_axis_tready = 0;
    }

    void step() {
        top->s_axis_tvalid = !to_board.empty();
        top->s_axis_tdata = to_board.empty() ? 0 : to_board.front();
        top->m_axis_tready = 1;
        low();
        if (top->s_axis_tvalid && top->s_axis_tready) to_board.pop_front();
        if (top->m_axis_tvalid) from_board.push_back(top->m_axis_tdata);
        high();
    }
#endif
};

}  // namespace

HEDDLE_API void* heddle_board_create() { return new Board; }
HEDDLE_API void heddle_board_destroy(void* board) { delete static_cast<Board*>(board); }
HEDDLE_API uint64_t heddle_board_cycle(void* board) { return static_cast<Board*>(board)->cycle; }
HEDDLE_API uint64_t heddle_board_framing_errors(void* board) { return static_cast<Board*>(board)->framing_errors; }

// Queues bytes for the link; they go out while the board runs.
HEDDLE_API void heddle_board_send(void* handle, const uint8_t* bytes, uint64_t count) {
    Board& board = *static_cast<Board*>(handle);
    board.to_board.insert(board.to_board.end(), bytes, bytes + count);
}

// Runs until `count` bytes have come, or until none has come for `patience` cycles after the last queued one was taken;
// copies what there is, at most `count`, and returns how many.
HEDDLE_API uint64_t heddle_board_receive(void* handle, uint8_t* bytes, uint64_t count, uint64_t patience) {
    Board& board = *static_cast<Board*>(handle);
    std::size_t seen = board.from_board.size();
    for (uint64_t quiet = 0; board.from_board.size() < count && quiet < patience; ++quiet) {
        board.step();
        if (!board.to_board.empty() || board.from_board.size() != seen) quiet = 0;
        seen = board.from_board.size();
    }
    uint64_t copied = 0;
    for (; copied < count && !board.from_board.empty(); ++copied) {
        bytes[copied] = board.from_board.front();
        board.from_board.pop_front();
    }
    return copied;
}
