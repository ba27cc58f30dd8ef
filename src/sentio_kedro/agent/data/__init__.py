"""Training data: fold data, screening, resampled paths, windows."""
