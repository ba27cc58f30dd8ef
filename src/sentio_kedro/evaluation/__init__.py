"""What the agents were worth: backtest, baselines, metrics, intervals, figures and the report."""
