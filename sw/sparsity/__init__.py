"""Sparsity of whole models, and golden models of how sparse cores store and count: sizes, densities, cycles."""
