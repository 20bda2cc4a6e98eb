"""Formulas that need no campaign: statistics of samples, figures of ISO 26262."""
