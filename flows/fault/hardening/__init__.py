"""Selective hardening: which registers get which mechanism, at what cost."""
