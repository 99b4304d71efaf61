"""`take` reads what indexing reads."""

import jax
import numpy as np
import pytest

from marsrl.compiler import take

NUMBERS = np.arange(24.0, dtype=np.float32).reshape(4, 3, 2)


@pytest.mark.parametrize(
    "index",
    [
        np.array([3, 0]),
        (slice(None), np.array([2, 2])),
        (np.arange(4), np.array([0, 2, 1, 0])),
        (np.int32(3), np.array([[0], [2]]), np.array([[1], [0]])),
    ],
)
def test_reads_what_indexing_reads(index):
    np.testing.assert_array_equal(take(NUMBERS, index), NUMBERS[index])
    np.testing.assert_array_equal(jax.jit(lambda: take(NUMBERS, index))(), NUMBERS[index])


def test_reads_random_keys():
    keys = jax.random.split(jax.random.key(0), 5)
    taken = take(keys, np.array([4, 1]))
    np.testing.assert_array_equal(
        jax.random.key_data(taken), jax.random.key_data(keys)[np.array([4, 1])]
    )
