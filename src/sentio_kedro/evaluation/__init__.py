"""Evaluation: backtest, baselines, metrics, intervals, plots and the report."""
