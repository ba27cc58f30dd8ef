"""Kedro hooks: manifests, tracking, promotion."""
