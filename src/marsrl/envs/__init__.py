"""Environments: the interface, vectorisation, the registry, and our own."""
