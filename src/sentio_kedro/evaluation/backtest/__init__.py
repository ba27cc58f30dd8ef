"""The out-of-sample test: agents, baselines and stress variants through the one step."""
