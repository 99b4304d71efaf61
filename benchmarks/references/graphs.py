"""Shortest paths on graphs given by their moves."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra


def steps_to(successor: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Least number of moves from every node to the nearest of the goals.

    Args:
        successor: (A, V) int, the node to which each move leads; itself where it is blocked.
        goals: (K,) int nodes.

    Returns:
        (V,) float, infinite where no goal can be reached.
    """
    num_moves, num_nodes = successor.shape
    origin = np.tile(np.arange(num_nodes), num_moves)
    backward = coo_array((np.ones(origin.size), (successor.ravel(), origin)), (num_nodes,) * 2)
    return dijkstra(backward.tocsr(), indices=goals, unweighted=True, min_only=True)
