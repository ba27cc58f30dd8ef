"""From the files that somebody has to an environment that runs: what they are, what must be chosen, what follows."""
