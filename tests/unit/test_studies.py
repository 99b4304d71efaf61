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
            studies.end(trial, -len(trial.jobs[0].config.task) - trial.trial.number % 3)
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
