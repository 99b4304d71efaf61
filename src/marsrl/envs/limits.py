"""The most that an environment may be asked for; needs no JAX."""

MAX_STEPS = 1_000_000
"""Longest episode."""
MAX_AGENTS = 1_000
"""Most agents, or other things."""
LONGEST_STAGGER = 2000
"""Random steps before training; see `marsrl.envs.vector.VectorEnv.stagger`."""
