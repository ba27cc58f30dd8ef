"""Cells of vendors' files: numbers and timestamps, however they are written."""
