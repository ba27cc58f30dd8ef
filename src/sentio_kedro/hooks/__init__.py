"""What happens around a run: manifests, tracking, promotion."""
