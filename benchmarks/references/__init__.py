"""High references: what a good team earns in a task, so that returns share one scale.

Scripted teams that see everything, bounds, and published figures. None of them is an optimum.
"""
