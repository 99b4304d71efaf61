"""What is taken from other parameters, array by array; whole runs are in test_continue.py."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from environments import Scripted, random_weights, small_config
from marsrl.learner.algorithm import networks_of
from marsrl.runs.transfer import Source, transferred
from marsrl.types import Box

BOX = Box(2)
GROUPS = {3: ("a", "b", "a"), 4: ("a", "b", "a", "c")}


def spec_of(groups):
    return Scripted(BOX, len(groups), groups=groups).spec


def weights_of(share, spec, seed, **settings):
    networks = networks_of(small_config(share_parameters=share, **settings), spec)
    return jax.tree.map(np.asarray, random_weights(networks, seed))


def by_name(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}


def taken(theirs, mine):
    """By name: the source, what was there before, what is there after; and what is said of it."""
    (shared, was), (sharing, now) = (
        (share, spec_of(GROUPS.get(groups, groups))) for share, groups in (theirs, mine)
    )
    source, before = weights_of(shared, was, 0), weights_of(sharing, now, 1)
    fresh = jax.tree.map(lambda x: x[None], before)
    config = small_config(share_parameters=shared)
    start = Source(Path("there"), 0, 0, by_name(source), config, was.groups)
    after, said = transferred(fresh, start, small_config(share_parameters=sharing), now)
    after = jax.tree.map(lambda x: x[0], after)
    return by_name(source), by_name(before), by_name(after), said


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
    ((name, was),) = there.items()
    theirs, mine = small_config(**there), small_config(**here)
    spec = Scripted(BOX, 3, groups=GROUPS[3]).spec
    source, weights = (
        jax.tree.map(np.asarray, random_weights(networks_of(config, spec), 0))
        for config in (theirs, mine)
    )
    fresh = jax.tree.map(lambda x: x[None], weights)
    there = Source(Path("there"), 0, 0, by_name(source), theirs, spec.groups)
    _, said = transferred(fresh, there, mine, spec)
    assert said.endswith(f"; of another scale: {name} is {here[name]!r}, was {was!r}")
    there = Source(Path("there"), 0, 0, by_name(weights), mine, spec.groups)
    _, said = transferred(fresh, there, mine, spec)
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
    spec = spec_of(GROUPS[3])
    source = weights_of(True, spec, 0, agent_ids=theirs)
    before = weights_of(share, spec, 1, agent_ids=mine)
    config = small_config(agent_ids=theirs)
    start = Source(Path("there"), 0, 0, by_name(source), config, spec.groups)
    here = small_config(share_parameters=share, agent_ids=mine)
    fresh = jax.tree.map(lambda x: x[None], before)
    after = by_name(jax.tree.map(lambda x: x[0], transferred(fresh, start, here, spec)[0]))
    for name, leaf in after.items():
        theirs_too = by_name(source).get(name)
        if not name.endswith(("agent_id", "params/log_std")) or theirs == mine:
            np.testing.assert_array_equal(leaf, np.broadcast_to(theirs_too, leaf.shape))
        else:
            np.testing.assert_array_equal(leaf, by_name(before)[name])


def test_groups_that_both_have_are_taken_and_others_are_fresh():
    source, before, after, said = taken(("groups", 3), ("groups", 4))
    assert said.count("(but for a, b)") == sum(name.startswith("actor") for name in after)
    for name, leaf in after.items():
        if name.startswith("actor"):
            np.testing.assert_array_equal(leaf[:2], source[name])
            np.testing.assert_array_equal(leaf[2], before[name][2])


def test_groups_are_taken_by_their_names():
    source, _, after, said = taken(("groups", ("a", "b", "a")), ("groups", ("b", "a", "a")))
    assert "fresh" not in said
    for name, leaf in after.items():
        theirs = source[name]
        expected = theirs[[1, 0]] if name.startswith("actor") else theirs
        np.testing.assert_array_equal(leaf, expected)
    source, before, after, said = taken(
        ("groups", ("a", "b", "c", "b")), ("groups", ("d", "c", "a", "d"))
    )
    assert said.count("(but for c, a)") == sum(name.startswith("actor") for name in after)
    for name, leaf in after.items():
        if name.startswith("actor"):
            np.testing.assert_array_equal(leaf[0], before[name][0])
            np.testing.assert_array_equal(leaf[1:], source[name][[2, 0]])


def test_groups_that_are_not_told_are_not_guessed():
    spec = spec_of(GROUPS[3])
    weights, config = weights_of("groups", spec, 0), small_config(share_parameters="groups")
    before = weights_of("groups", spec, 1)
    start = Source(Path("there"), 0, 0, by_name(weights), config, ())
    after, said = transferred(jax.tree.map(lambda x: x[None], before), start, config, spec)
    assert said.endswith("; which groups it had is not told")
    jax.tree.map(
        np.testing.assert_array_equal, jax.tree.map(lambda x: x[0], after.actor), before.actor
    )


@pytest.mark.parametrize("share", [False, "groups"])
def test_the_team_s_critic_has_no_agents_of_its_own(share):
    """Its inputs are (H, ...), and its features move where the state of a larger team is longer."""
    spec = spec_of(GROUPS[3])
    longer = dataclasses.replace(spec, state_shape=(spec.state_shape[0] + 2,))
    source, before = weights_of(share, spec, 0), weights_of(share, longer, 1)
    config = small_config(share_parameters=share)
    start = Source(Path("there"), 0, 0, by_name(source), config, spec.groups)
    after, said = transferred(jax.tree.map(lambda x: x[None], before), start, config, longer)
    after = by_name(jax.tree.map(lambda x: x[0], after))
    kernels = [name for name in after if after[name].shape != by_name(source)[name].shape]
    assert kernels
    for name in kernels:
        np.testing.assert_array_equal(after[name], by_name(before)[name])
    assert "but for" not in said


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
