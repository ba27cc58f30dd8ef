"""Facts about the market: bars, indicators, regimes, folds and sessions."""
