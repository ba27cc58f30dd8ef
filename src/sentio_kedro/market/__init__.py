"""Facts about the market: bars, indicators, regimes, folds and resampled paths."""
