"""What is shown of a trader over HTTP: page, numbers, metrics, health."""
