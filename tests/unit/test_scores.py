import math
from pathlib import Path

import pytest

from marsrl.errors import UserError
from marsrl.runs.scores import best_seed, best_update, kept_updates, named_update

SCORES = {0: {3: 1.0, 5: 2.0}, 4: {3: 4.0, 5: -math.inf}, 8: {3: 4.0}}


def test_the_newest_and_the_best_of_each_seed_are_kept_of_equals_the_newest():
    scores = {
        0: {3: 5.0, 5: 0.0},
        2: {3: 5.0, 5: 9.0},
        4: {3: 1.0, 5: float("-inf")},
        6: {3: 1.0, 5: float("-inf")},
        8: {3: 1.0, 5: float("-inf")},
    }
    assert kept_updates(scores, 1) == {2, 8}
    assert kept_updates(scores, 2) == {2, 6, 8}
    assert (best_update(scores, 3), best_update(scores, 5)) == (2, 2)
    del scores[2]
    assert (best_update(scores, 3), best_update(scores, 5)) == (0, 0)
    assert best_update({4: {5: float("-inf")}, 6: {5: float("-inf")}}, 5) == 6
    assert best_update(scores, 7) is None


def test_the_best_seed_is_that_of_the_best_evaluation():
    assert best_seed(SCORES, (5, 3)) == 3
    assert best_seed(SCORES, (7, 5)) == 5
    assert best_seed({0: {3: 1.0, 5: 1.0}}, (5, 3)) == 5


@pytest.mark.parametrize(
    ("name", "update"),
    [("best", 8), ("latest", 9), ("0", 0), ("36", 9), ("3_6", 9), ("3.6e1", 9), ("36.0", 9)],
)
def test_a_name_means_an_update(name, update):
    """Of equally good ones the newest; the latest needs no evaluation."""
    assert named_update(name, SCORES, [0, 4, 8, 9], 3, 4, Path("run")) == update


def test_a_name_that_means_none_is_refused_with_those_that_do():
    expected = r"^run has no checkpoint '9' of seed 3; expected best, latest, 0, 16$"
    with pytest.raises(UserError, match=expected):
        named_update("9", SCORES, [0, 4], 3, 4, Path("run"))
    with pytest.raises(UserError, match=r"no checkpoint 'best' of seed 7; expected latest, 0$"):
        named_update("best", SCORES, [0], 7, 4, Path("run"))
