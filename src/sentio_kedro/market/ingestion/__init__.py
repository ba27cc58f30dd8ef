"""Bars: read, checked, adjusted and aligned on one grid of timestamps and sessions."""
