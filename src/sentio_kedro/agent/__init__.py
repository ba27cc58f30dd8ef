"""The agent: networks, advantages, losses, rollout, trainer, and the bundle that an agent travels in."""
