"""A search over parameters with Optuna."""
