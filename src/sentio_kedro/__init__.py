"""Sentio Kedro: trading agents trained with PPO, validated honestly, as a Kedro project."""

__version__ = "0.1.0"
