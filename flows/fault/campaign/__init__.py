"""Campaigns: which faults are drawn, who simulates them, where rows are kept, what they add up to."""
