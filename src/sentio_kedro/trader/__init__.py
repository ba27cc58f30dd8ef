"""The trader: bars in, orders out, every fact in a journal, restart-safe. It knows no Kedro, and MLflow by tracking."""
