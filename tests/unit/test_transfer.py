"""What is taken from other parameters, array by array; whole runs are in test_continue.py."""

from pathlib import Path

import jax
import numpy as np
import pytest

from environments import Scripted, random_weights, small_config
from marsrl.learner.algorithm import networks_of
from marsrl.learner.groups import groups_of
from marsrl.runs.transfer import Source, transferred
from marsrl.types import Box

BOX = Box(2)
GROUPS = {3: ("a", "b", "a"), 4: ("a", "b", "a", "c")}


def weights_of(share, num_agents, seed, **settings):
    spec = Scripted(BOX, num_agents, groups=GROUPS[num_agents]).spec
    networks = networks_of(small_config(share_parameters=share, **settings), spec)
    return groups_of(spec, share), jax.tree.map(np.asarray, random_weights(networks, seed))


def by_name(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}


def taken(theirs, mine):
    """By name: the source, what was there before, what is there after; and what is said of it."""
    (shared, number), (sharing, now) = theirs, mine
    source, before = weights_of(shared, number, 0)[1], weights_of(sharing, now, 1)
    fresh = jax.tree.map(lambda x: x[None], before[1])
    start = Source(Path("there"), 0, 0, by_name(source), small_config(share_parameters=shared))
    after, said = transferred(fresh, start, small_config(share_parameters=sharing), before[0])
    after = jax.tree.map(lambda x: x[0], after)
    return by_name(source), by_name(before[1]), by_name(after), said


@pytest.mark.parametrize("share", [True, False, "groups"])
def test_a_team_of_the_same_kind_is_taken_as_it_is(share):
    source, _, after, said = taken((share, 3), (share, 3))
    jax.tree.map(np.testing.assert_array_equal, after, source)
    assert "fresh" not in said


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ({"actor_norm": "running"}, {"actor_norm": "none"}),
        ({"actor_norm": "none"}, {"actor_norm": "layer"}),
        ({"actor_norm": "layer"}, {"actor_norm": "running"}),
        ({"value_norm": True}, {"value_norm": False}),
        ({"critic_norm": "layer"}, {"critic_norm": "none"}),
    ],
)
def test_what_reads_or_puts_out_numbers_of_another_scale_is_said(there, here):
    theirs, mine = small_config(**there), small_config(**here)
    spec = Scripted(BOX, 3, groups=GROUPS[3]).spec
    source, weights = (
        jax.tree.map(np.asarray, random_weights(networks_of(config, spec), 0))
        for config in (theirs, mine)
    )
    fresh = jax.tree.map(lambda x: x[None], weights)
    _, said = transferred(fresh, Source(Path("there"), 0, 0, by_name(source), theirs), mine, None)
    ((name, was),) = there.items()
    assert said.endswith(f"; of another scale: {name} is {here[name]!r}, was {was!r}")
    _, said = transferred(fresh, Source(Path("there"), 0, 0, by_name(weights), mine), mine, None)
    assert "scale" not in said


def test_groups_begin_with_what_all_shared_and_agents_with_their_ids():
    source, _, after, said = taken((True, 3), ("groups", 3))
    assert "fresh" not in said
    for name, leaf in after.items():
        if name.endswith(("agent_id", "params/log_std")):
            np.testing.assert_array_equal(leaf[0], source[name][[0, 2]])
            np.testing.assert_array_equal(leaf[1, 0], source[name][1])
        else:
            parts = leaf if name.startswith("actor") else leaf[None]
            for part in parts:
                np.testing.assert_array_equal(part, source[name])


@pytest.mark.parametrize("share", [True, "groups"])
@pytest.mark.parametrize(("theirs", "mine"), [(False, False), (False, True), (True, False)])
def test_what_belongs_to_no_agent_is_not_taken_for_an_agents(share, theirs, mine):
    source = weights_of(True, 3, 0, agent_ids=theirs)[1]
    groups, before = weights_of(share, 3, 1, agent_ids=mine)
    start = Source(Path("there"), 0, 0, by_name(source), small_config(agent_ids=theirs))
    here = small_config(share_parameters=share, agent_ids=mine)
    fresh = jax.tree.map(lambda x: x[None], before)
    after = by_name(jax.tree.map(lambda x: x[0], transferred(fresh, start, here, groups)[0]))
    for name, leaf in after.items():
        theirs_too = by_name(source).get(name)
        if not name.endswith(("agent_id", "params/log_std")) or theirs == mine:
            np.testing.assert_array_equal(leaf, np.broadcast_to(theirs_too, leaf.shape))
        else:
            np.testing.assert_array_equal(leaf, by_name(before)[name])


def test_groups_that_both_have_are_taken_and_others_are_fresh():
    source, before, after, said = taken(("groups", 3), ("groups", 4))
    assert said.count("(but for 2 groups)") == sum(name.startswith("actor") for name in after)
    for name, leaf in after.items():
        if name.startswith("actor"):
            np.testing.assert_array_equal(leaf[:2], source[name])
            np.testing.assert_array_equal(leaf[2], before[name][2])


def test_agents_that_both_have_bring_their_ids():
    source, before, after, said = taken((True, 3), (True, 4))
    rows = [n for n in after if n.endswith(("agent_id", "params/log_std"))]
    assert len(rows) == said.count("(but for 3 agents)") == 2
    for name in rows:
        np.testing.assert_array_equal(after[name][:3], source[name])
        np.testing.assert_array_equal(after[name][3], before[name][3])


def test_a_larger_team_has_ids_of_its_own_where_all_shared():
    _, before, after, said = taken((True, 3), ("groups", 4))
    (ids,) = (name for name in after if name.endswith("agent_id"))
    assert f"fresh: {ids}" in said
    np.testing.assert_array_equal(after[ids], before[ids])


@pytest.mark.parametrize("share", [True, "groups"])
def test_agents_of_their_own_are_no_groups(share):
    source, before, after, _ = taken((False, 3), (share, 3))
    for name, leaf in after.items():
        fresh = name.startswith("actor") and not (share is True and name.endswith("log_std"))
        np.testing.assert_array_equal(leaf, (before if fresh else source)[name])


def test_groups_are_not_agents_even_if_there_are_as_many():
    source, before, after, said = taken((False, 3), ("groups", 4))  # of which there are three
    name = next(x for x in source if x.startswith("actor") and x.endswith("kernel"))
    assert source[name].shape == before[name].shape
    np.testing.assert_array_equal(after[name], before[name])
    assert name in said
    name = next(x for x in source if x.startswith("critic") and x.endswith("kernel"))
    np.testing.assert_array_equal(after[name], source[name])
