"""Training data: fold data, resampled paths, windows."""
