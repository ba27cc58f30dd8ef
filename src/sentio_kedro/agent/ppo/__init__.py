"""Proximal policy optimisation: rollout, advantages, losses, update."""
