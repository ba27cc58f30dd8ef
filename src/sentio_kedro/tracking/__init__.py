"""The MLflow boundary: runs, tags, models and the registry."""
