"""What simulates faults: three engines that must agree fault by fault."""
