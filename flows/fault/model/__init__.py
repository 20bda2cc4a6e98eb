"""Across layers: a fault in one tile of the array, and what a language model then writes."""
