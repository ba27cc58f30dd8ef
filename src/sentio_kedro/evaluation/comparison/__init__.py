"""Finished runs side by side, and promotion gates."""
