// Drives the clock of the smoke bench until it finishes.

#include "Vtop.h"
#include "verilated.h"

#include <cstdlib>

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    VerilatedContext context;
    Vtop bench{&context};
    const long cycles = std::atol(argv[1]);
    for (long cycle = 0; cycle < cycles && !context.gotFinish(); ++cycle) {
        bench.clk = 0;
        bench.eval();
        bench.clk = 1;
        bench.eval();
        context.timeInc(1);
    }
    bench.final();
    return context.gotFinish() ? 0 : 1;
}
