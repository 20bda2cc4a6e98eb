// One block's Verilator model behind a C interface: a vector of inputs in, a vector of outputs out, every cycle.
//
// Compiled with HEDDLE_INPUTS(PORT) and HEDDLE_OUTPUTS(PORT), which list the ports i0, i1, … and o0, o1, … of the top module,
// and HEDDLE_CLOCKED, whether anything in it listens to the clock. A port is a column of 64-bit words, low word first.

#include "Vtop.h"
#include "verilated.h"

#include <cstdint>
#include <cstring>
#include <memory>

namespace {

// Ports are integers up to 64 bits and arrays of 32-bit words above.
template <typename T> void put(T& port, const uint64_t* words) { port = static_cast<T>(*words); }
template <std::size_t N> void put(VlWide<N>& port, const uint64_t* words) { std::memcpy(&port, words, 4 * N); }
template <typename T> void get(uint64_t* words, const T& port) { *words = port; }
template <std::size_t N> void get(uint64_t* words, const VlWide<N>& port) { std::memcpy(words, &port, 4 * N); }

}  // namespace

// Runs from reset over `vectors` cycles and then `extra` cycles with the inputs of the last vector, and writes the outputs of
// all but the first `extra` cycles, as they are before the clock edge. `steps` are the words from one vector to the next, inputs
// first; 0 repeats the first vector. Returns whether the model ran without an error.
extern "C" __attribute__((visibility("default"))) int heddle_block_run(
    const uint64_t* const* inputs, uint64_t* const* outputs, const uint64_t* input_steps, const uint64_t* output_steps,
    uint64_t vectors, uint64_t extra) {
    VerilatedContext context;
    context.fatalOnError(false);
    auto top = std::make_unique<Vtop>(&context, "");
    top->clk = 1;  // so that the first evaluation is not an edge
    top->rst = 1;
    for (int clk = 0; clk < 2; ++clk) {
        top->clk = clk;
        top->eval();
    }
    top->rst = 0;
    for (uint64_t cycle = 0; cycle < vectors + extra; ++cycle) {
        if (cycle < vectors) {
#define HEDDLE_PUT(INDEX) put(top->i##INDEX, inputs[INDEX] + cycle * input_steps[INDEX]);
            HEDDLE_INPUTS(HEDDLE_PUT)
        }
        top->clk = 0;
        top->eval();
        if (cycle >= extra) {
#define HEDDLE_GET(INDEX) get(outputs[INDEX] + (cycle - extra) * output_steps[INDEX], top->o##INDEX);
            HEDDLE_OUTPUTS(HEDDLE_GET)
        }
#if HEDDLE_CLOCKED
        top->clk = 1;
        top->eval();
#endif
    }
    return !context.gotError();
}
