"""FPGA synthesis, place and route, and bitstreams with open tools."""
