"""What an account can do and what it costs: one accounting for training, backtest and serving."""
