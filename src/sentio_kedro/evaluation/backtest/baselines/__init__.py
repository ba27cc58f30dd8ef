"""Baselines that pay the same costs through the same step."""
