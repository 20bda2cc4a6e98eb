"""Fault injection: campaigns on the RTL, their statistics, and the hardening that they pay for."""
