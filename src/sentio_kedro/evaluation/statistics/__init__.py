"""Statistics of return series: bootstrap, Sharpe ratio tests, overfitting. No data frames."""
