"""Feeds: complete bars of the traded symbols."""
