"""The agent outside Kedro: decisions from raw bars, and the MLflow model."""
