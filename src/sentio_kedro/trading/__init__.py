"""Accounts, limits, costs and execution: one accounting for training, backtest and serving."""
