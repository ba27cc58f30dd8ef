"""Generated parameter files, bars and damaged artifacts, and what a run makes of them before its first node."""
