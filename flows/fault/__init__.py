"""Fault injection: campaigns on the RTL, their statistics, and the hardening that they pay for.

records
    Faults and outcomes, as every engine takes and gives them.
targets
    What is injected into: arrays, tiles of a model, programs on an accelerator.
netlist
    The design as cells, as words of 32 bits, as flat Verilog; fault sites.
engines
    Lanes, Verilator, cocotb: the same faults, the same outcomes.
figures
    Statistics of samples, figures of ISO 26262.
campaign
    Which faults are drawn, who simulates them, where rows are kept, what they add up to.
hardening
    What to protect for a target at the least area.
model
    From a fault in one tile to the text that a language model writes.
reports
    Figures as JSON, pages as HTML.

Each knows only those before it.
"""
