"""Members of an agent trained as one batch."""
