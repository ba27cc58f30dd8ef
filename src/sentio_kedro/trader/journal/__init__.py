"""The journal: what happened, in order, for ever, in one SQLite file."""
