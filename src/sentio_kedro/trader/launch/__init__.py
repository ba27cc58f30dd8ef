"""A trader from its parameters: agents, parts, one run."""
