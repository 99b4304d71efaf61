"""Environments of PettingZoo and Gymnasium, stepped in processes of their own beside JAX."""
