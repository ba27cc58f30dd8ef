"""The policy network: encoder, attention, heads, distributions."""
