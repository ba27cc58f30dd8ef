"""Metrics of accounts, returns, drawdowns and robustness."""
