"""What the trials of a search are to train: nothing is trained here."""

import dataclasses

import pytest

import pretend_tune
from marsrl.tune.plan import Study, adopt
from marsrl.tune.space import Choice, LogUniform, Tied
from marsrl.tune.studies import Studies
from marsrl.tune.trials import read_trials


def begun(tuning, folder, lost=()):
    """The trials of a search, as they begin; those that are `lost` end like those of a kill.

    Args:
        lost: how many have begun before each of them.
    """
    studies = Studies(adopt(tuning, folder), folder)
    found = []
    while trial := studies.begin():
        trial.claim.release()
        if len(found) not in lost:
            studies.end(trial, -trial.jobs[0].config.actor_lr)
        found.append(trial)
    return found


def configs(trials):
    return [[job.config for job in trial.jobs] for trial in trials]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_nothing_is_drawn_but_by_the_seeded_sampler(tmp_path, sampler):
    """Also where the settings as they are, 64 and 4, are not in the space."""
    points = {"width": Choice((16, 32, 128, 256)), "update_epochs": Choice((1, 2, 8))}
    searches = [
        configs(begun(pretend_tune.tuning(points, 4, sampler), tmp_path / name))
        for name in ("one", "two", "three")
    ]
    assert searches[0] == searches[1] == searches[2]
    assert searches[0][0] == [pretend_tune.config()]
    assert {configs[0].width for configs in searches[0][1:]} <= {16, 32, 128, 256}


def test_the_first_trial_has_the_settings_as_they_are_also_where_tasks_differ(tmp_path):
    tasks = (
        pretend_tune.config(task="lbf/8x8-2p-2f-coop", actor_lr=1e-3, critic_lr=5e-4),
        pretend_tune.config(task="paxmen/4ag", actor_lr=2e-3, critic_lr=5e-4, width=32),
    )
    dims = {
        "actor_lr": LogUniform(1e-4, 1e-2),
        "critic_lr": Tied("actor_lr"),
        "eps": LogUniform(0.2, 10.0),
    }
    study = Study("mars", "mars", None, tasks, (None, None), dims)
    tuning = dataclasses.replace(pretend_tune.tuning(trials=3), studies=(study,))
    trials = begun(tuning, tmp_path / "search", lost=(0,))
    assert [trial.is_start for trial in trials] == [True, True, False, False]
    assert configs(trials)[:2] == [[*tasks], [*tasks]]
    one, other = trials[2].jobs
    assert one.config.actor_lr == one.config.critic_lr == other.config.actor_lr
    read = read_trials(tuning, Studies(tuning, tmp_path / "search"))
    assert read[0].settings == {"critic_lr": 5e-4, "eps": 0.2}
    assert set(read[1].settings) == set(dims)


def two_objectives(sampler):
    """One has choices of the trust region where the other has a range, before what they share."""
    spaces = {
        "mars": {"eps": Choice((0.5, 1.0, 2.0)), **SHARED},
        "mappo": {"eps": LogUniform(0.05, 0.4), **SHARED},
    }
    studies = tuple(
        Study(x, x, None, (pretend_tune.config(objective=x),), (None,), dims)
        for x, dims in spaces.items()
    )
    return dataclasses.replace(pretend_tune.tuning(trials=6, sampler=sampler), studies=studies)


SHARED = {"actor_lr": LogUniform(1e-4, 1e-2), "update_epochs": Choice((1, 2, 8))}


def chosen(tuning, folder):
    """The settings of each study's trials, in their order."""
    trials = read_trials(tuning, Studies(tuning, folder))
    return [[t.settings for t in trials if t.study == study] for study in tuning.studies]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_killed_search_ends_with_the_trials_of_one_that_was_not(tmp_path, sampler):
    tuning = two_objectives(sampler)
    begun(tuning, tmp_path / "whole")
    begun(tuning, tmp_path / "killed", lost=(0, 3, 4, 9))
    assert chosen(tuning, tmp_path / "killed") == chosen(tuning, tmp_path / "whole")


def test_objectives_are_paired_whatever_their_trust_regions_are_drawn_from(tmp_path):
    tuning = two_objectives("random")
    begun(tuning, tmp_path / "search", lost=(3,))
    mars, mappo = chosen(tuning, tmp_path / "search")
    assert [{**x, "eps": 0} for x in mars] == [{**x, "eps": 0} for x in mappo]
    assert len({x["actor_lr"] for x in mars}) == 6


def test_settings_as_they_are_outside_of_the_space_say_nothing_of_importance(tmp_path):
    space = {"eps": LogUniform(0.3, 10.0), "actor_lr": LogUniform(1e-4, 1e-2)}
    tuning = pretend_tune.tuning(space, trials=16)
    begun(tuning, tmp_path / "search")
    shares = Studies(tuning, tmp_path / "search").importances(tuning.studies[0])
    assert list(shares) == ["actor_lr", "eps"]  # with no warning of trials that lack one
