"""From a component to the files that other people's flows take: modules, Verilog text, memories, manifest."""
