"""The lanes engine: C++ made from the netlist, a vector of faulty machines beside one without faults."""
