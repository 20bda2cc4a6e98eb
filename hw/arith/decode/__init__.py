"""Decoders of number formats: packed codes → values that arithmetic can take."""

from amaranth.lib import wiring

from hw.families import Format

__all__ = ["DECODERS"]

DECODERS: dict[type[Format], type[wiring.Component]] = {}
"""Family of formats → the decoder of its blocks."""
