"""What is taken from other parameters, array by array; whole runs are in test_continue.py."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from environments import Scripted, random_weights, small_config
from marsrl.errors import UserError
from marsrl.learner.algorithm import networks_of
from marsrl.runs import transfer
from marsrl.runs.transfer import Source, started_from, transferred
from marsrl.types import Box

BOX = Box(2)
GROUPS = {3: ("a", "b", "a"), 4: ("a", "b", "a", "c")}
OF_AGENTS = ("agent_id", "params/log_std")


def weights_of(share, team, seed, **settings):
    """Of so many agents, or of those of these groups."""
    groups = GROUPS.get(team, team)
    spec = Scripted(BOX, len(groups), groups=groups).spec
    networks = networks_of(small_config(share_parameters=share, **settings), spec)
    return spec, jax.tree.map(np.asarray, random_weights(networks, seed))


def by_name(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}


def taken(theirs, mine, told=True, **settings):
    """By name: the source, what was there before, what is there after; and what is said of it."""
    (shared, number), (sharing, now) = theirs, mine
    there, source = weights_of(shared, number, 0, **settings)
    here, before = weights_of(sharing, now, 1, **settings)
    fresh = jax.tree.map(lambda x: x[None], before)
    config = small_config(share_parameters=shared, **settings)
    start = Source(Path("there"), 0, 0, by_name(source), config, there if told else None)
    config = small_config(share_parameters=sharing, **settings)
    after, said = transferred(fresh, start, config, here)
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
    theirs, mine = small_config(**there), small_config(**here)
    spec = Scripted(BOX, 3, groups=GROUPS[3]).spec
    source, weights = (
        jax.tree.map(np.asarray, random_weights(networks_of(config, spec), 0))
        for config in (theirs, mine)
    )
    fresh = jax.tree.map(lambda x: x[None], weights)
    _, said = transferred(
        fresh, Source(Path("there"), 0, 0, by_name(source), theirs, spec), mine, spec
    )
    ((name, was),) = there.items()
    assert said.endswith(f"; of another scale: {name} is {here[name]!r}, was {was!r}")
    _, said = transferred(
        fresh, Source(Path("there"), 0, 0, by_name(weights), mine, spec), mine, spec
    )
    assert "scale" not in said


def test_groups_begin_with_what_all_shared_and_agents_with_their_ids():
    source, _, after, said = taken((True, 3), ("groups", 3))
    assert "fresh" not in said
    for name, leaf in after.items():
        if name.endswith(OF_AGENTS):
            np.testing.assert_array_equal(leaf[0], source[name][[0, 2]])
            np.testing.assert_array_equal(leaf[1, 0], source[name][1])
        else:
            parts = leaf if name.startswith("actor") else leaf[None]
            for part in parts:
                np.testing.assert_array_equal(part, source[name])


@pytest.mark.parametrize("share", [True, "groups"])
@pytest.mark.parametrize(("theirs", "mine"), [(False, False), (False, True), (True, False)])
def test_what_belongs_to_no_agent_is_not_taken_for_an_agents(share, theirs, mine):
    there, source = weights_of(True, 3, 0, agent_ids=theirs)
    spec, before = weights_of(share, 3, 1, agent_ids=mine)
    start = Source(Path("there"), 0, 0, by_name(source), small_config(agent_ids=theirs), there)
    here = small_config(share_parameters=share, agent_ids=mine)
    fresh = jax.tree.map(lambda x: x[None], before)
    after = by_name(jax.tree.map(lambda x: x[0], transferred(fresh, start, here, spec)[0]))
    for name, leaf in after.items():
        theirs_too = by_name(source).get(name)
        if not name.endswith(OF_AGENTS) or theirs == mine:
            np.testing.assert_array_equal(leaf, np.broadcast_to(theirs_too, leaf.shape))
        else:
            np.testing.assert_array_equal(leaf, by_name(before)[name])


def test_groups_that_both_have_are_taken_and_others_are_fresh():
    source, before, after, said = taken(("groups", 3), ("groups", 4))
    assert said.count("(but for 2 groups)") + 2 == sum(name.startswith("actor") for name in after)
    assert said.count("(but for 3 agents)") == 2
    assert said.endswith("; groups that it does not have: c")
    for name, leaf in after.items():
        if name.startswith("actor"):
            np.testing.assert_array_equal(leaf[0], source[name][0])
            first = (1, 0) if name.endswith(OF_AGENTS) else 1  # b has one agent
            np.testing.assert_array_equal(leaf[first], source[name][first])
            np.testing.assert_array_equal(leaf[2], before[name][2])


def test_agents_that_both_have_bring_their_ids():
    source, before, after, said = taken((True, 3), (True, 4))
    rows = [n for n in after if n.endswith(OF_AGENTS)]
    assert len(rows) == said.count("(but for 3 agents)") == 2
    for name in rows:
        np.testing.assert_array_equal(after[name][:3], source[name])
        np.testing.assert_array_equal(after[name][3], before[name][3])


def test_groups_of_a_larger_team_have_the_ids_of_agents_that_shared_with_all():
    source, before, after, said = taken((True, 3), ("groups", 4))
    for name in (name for name in after if name.endswith(OF_AGENTS)):
        assert f"{name} (but for 3 agents)" in said
        np.testing.assert_array_equal(after[name][0], source[name][[0, 2]])
        np.testing.assert_array_equal(after[name][1, 0], source[name][1])
        np.testing.assert_array_equal(after[name][2], before[name][2])


@pytest.mark.parametrize("settings", [{}, {"critic": "obs", "value_norm": True}])
def test_groups_are_matched_by_their_names(settings):
    source, _, after, said = taken(
        ("groups", ("a", "b", "a")), ("groups", ("b", "a", "a")), **settings
    )
    assert "fresh" not in said
    grouped = ("actor", "critic/params") if settings else ("actor",)
    for name, leaf in after.items():
        if not name.startswith(grouped):
            np.testing.assert_array_equal(leaf, source[name])
        elif name.endswith(OF_AGENTS):
            np.testing.assert_array_equal(leaf[0, 0], source[name][1, 0])
            np.testing.assert_array_equal(leaf[1], source[name][0])
        else:
            np.testing.assert_array_equal(leaf, source[name][[1, 0]])


def test_agents_of_a_group_are_matched_by_their_numbers_in_it():
    source, before, after, _ = taken(("groups", ("a", "b", "a")), ("groups", ("b", "b", "a")))
    for name in (name for name in after if name.endswith(OF_AGENTS)):
        np.testing.assert_array_equal(after[name][0, 0], source[name][1, 0])
        np.testing.assert_array_equal(after[name][0, 1], before[name][0, 1])  # b had one agent
        np.testing.assert_array_equal(after[name][1, 0], source[name][0, 0])


def test_a_group_of_another_name_is_fresh():
    source, before, after, said = taken(("groups", ("a", "b", "a")), ("groups", ("d", "a", "a")))
    assert said.endswith("; groups that it does not have: d")
    assert "(but for 1 groups)" in said
    for name, leaf in after.items():
        if name.startswith("actor"):
            np.testing.assert_array_equal(leaf[0], before[name][0])
            np.testing.assert_array_equal(leaf[1], source[name][0])


@pytest.mark.parametrize("share", [True, False])
def test_agents_are_matched_by_the_names_of_their_groups(share):
    source, _, after, said = taken((share, ("a", "b", "a")), (share, ("b", "a", "a")))
    assert "fresh" not in said
    for name, leaf in after.items():
        of_agents = name.endswith(OF_AGENTS) or (share is False and name.startswith("actor"))
        np.testing.assert_array_equal(leaf, source[name][[1, 0, 2]] if of_agents else source[name])


def test_groups_begin_with_what_all_of_one_group_shared():
    source, _, after, _ = taken(("groups", ("a", "a")), ("groups", ("b", "a", "a")))
    for name, leaf in after.items():
        if name.endswith(OF_AGENTS):
            np.testing.assert_array_equal(leaf[1], source[name])
        elif name.startswith("actor"):
            np.testing.assert_array_equal(leaf, np.broadcast_to(source[name], leaf.shape))


@pytest.mark.parametrize("share", [False, "groups"])
def test_a_source_that_does_not_tell_whose_its_parameters_are_gives_those_of_the_team(share):
    source, before, after, said = taken((share, 3), (share, 3), told=False)
    assert said.endswith("; it is of an old version and does not tell whose its parameters are")
    for name, leaf in after.items():
        np.testing.assert_array_equal(leaf, (before if name.startswith("actor") else source)[name])
    with pytest.raises(UserError, match="does not tell whose its parameters are"):
        taken((share, 3), (share, 3), told=False, critic="obs")


@pytest.mark.parametrize("task", ["a:b", "a:c", "passed:b"])
def test_a_source_that_does_not_tell_has_the_agents_of_the_same_task(task, monkeypatch):
    spec, weights = weights_of("groups", 3, 0)
    config = small_config(share_parameters="groups", task=task, init_from="there")
    theirs = replace(config, task=task if task != "a:c" else "a:b")
    start = Source(Path("there"), 0, 0, by_name(weights), theirs, None)
    monkeypatch.setattr(transfer, "read_source", lambda name: start)
    _, said = started_from(config, spec, jax.tree.map(lambda x: x[None], weights))
    assert ("does not tell" in said) == (task != "a:b")


@pytest.mark.parametrize("share", [True, False, "groups"])
def test_a_critic_of_the_team_that_sees_more_is_fresh_where_it_sees_it(share):
    small = Scripted(BOX, 3, groups=GROUPS[3]).spec
    there, here = (replace(small, state_shape=(n,)) for n in (6 + 3, 8 + 3))  # agents, then others
    config = small_config(share_parameters=share)
    source, before = (
        jax.tree.map(np.asarray, random_weights(networks_of(config, spec), 0))
        for spec in (there, here)
    )
    start = Source(Path("there"), 0, 0, by_name(source), config, there)
    after, said = transferred(jax.tree.map(lambda x: x[None], before), start, config, here)
    ((name, leaf),) = (
        (n, x) for n, x in by_name(before).items() if x.shape != by_name(source)[n].shape
    )
    assert name.startswith("critic")
    assert said.endswith(f"; fresh: {name}")
    np.testing.assert_array_equal(by_name(after)[name][0], leaf)


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
