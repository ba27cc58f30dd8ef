"""Glue: what reads the catalog, calls the domain and writes the catalog. One folder per pipeline."""
