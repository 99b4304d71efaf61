"""The algorithm: networks, rollout, update, and the compiled program of all seeds."""
