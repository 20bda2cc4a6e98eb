"""The design as a netlist: read, flattened, lowered to words of 32 bits, with its fault sites."""
