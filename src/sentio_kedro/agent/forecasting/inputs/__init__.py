"""Inputs of the experts: over a history, and at its newest bar."""
