"""Forecasts of returns: inputs, targets, experts, and the evidence for them on train rows."""
