"""Live trading beside its backtest: where the difference comes from, and how likely the live return was."""
