"""Searches for settings: with pretended runs, some of them killed, and one with real ones."""

import csv
import dataclasses
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter

import pytest

import pretend_tune
from commands import run_all
from marsrl.bench.suite import Suite, read_suite
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.reading import read_toml
from marsrl.tune import commands
from marsrl.tune.commands import Tune
from marsrl.tune.launch import search
from marsrl.tune.plan import adopt, read_tuning
from marsrl.tune.results import best_files, write_results
from marsrl.tune.space import Choice, Tied, Uniform, free
from marsrl.tune.studies import Studies
from marsrl.tune.trials import Trial, best_of, read_trials

WAIT = 400.0  # seconds, for what takes a few where nothing else runs


def wait_for(condition):
    deadline = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return found


@pytest.fixture(autouse=True)
def pretend(monkeypatch):
    """Runs are pretended; what is given to it is what they do."""
    pretend_tune.install(monkeypatch.setattr)
    return lambda **what: monkeypatch.setenv("PRETEND", json.dumps(what))


def searched(tuning, folder, workers=1):
    """The trials of a search from here to its end, and what was told of each."""
    told = []
    tuning = adopt(tuning, folder)
    assert search(tuning, folder, workers, told.append)
    return read_trials(tuning, Studies(tuning, folder)), told


def notes(folder):
    """The eps of each run that was started."""
    return [
        float(line.split()[0]) for line in (folder / "trials" / "notes").read_text().splitlines()
    ]


# --- one search -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "search"
    with pytest.MonkeyPatch.context() as patch:
        pretend_tune.install(patch.setattr)
        trials, told = searched(pretend_tune.tuning(trials=6), folder, workers=2)
        tuning = read_tuning(folder)
        write_results(tuning, folder, Studies(tuning, folder))
    return folder, trials, told


def test_every_trial_is_trained_once_and_scored(whole):
    folder, trials, told = whole
    assert [t.number for t in trials] == list(range(6))
    assert {t.state for t in trials} == {"scored"}
    assert sorted(notes(folder)) == sorted(t.settings["eps"] for t in trials)
    assert len({t.settings["eps"] for t in trials}) == 6
    assert Counter(e.number for e in told) == Counter(range(6))
    assert max(e.counts.ended for e in told) == 6
    for t in trials:
        run = json.loads((folder / "trials" / str(t.number) / "status.json").read_text())
        assert run["status"] == "finished"
        assert t.settings["critic_lr"] == t.settings["actor_lr"]
        assert t.kl == pytest.approx(t.settings["eps"] / 1000)
        assert t.seconds == 3.0


def test_the_first_trial_has_the_settings_as_they_are(whole):
    first, config = whole[1][0].settings, pretend_tune.config()
    assert (first["eps"], first["actor_lr"]) == (pytest.approx(config.eps), config.actor_lr)


def test_the_best_is_the_one_with_the_highest_last_evaluation(whole):
    _, trials, _ = whole
    best = best_of(trials, trials[0].study)
    assert best.score == pytest.approx(6 * (1 - abs(math.log10(best.settings["eps"]))))
    assert best.score == max(t.score for t in trials)


def test_a_run_is_configured_by_the_best_settings(whole):
    folder, trials, _ = whole
    best = best_of(trials, trials[0].study).settings
    config = Config.from_dict(read_toml(folder / "best.toml"))
    assert (config.task, config.objective, config.num_envs) == ("mine:env", "mars", 4)
    assert {name: getattr(config, name) for name in best} == best
    assert not set(config.seeds) & {100, 101}


def test_table_and_figures(whole):
    folder, trials, _ = whole
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [float(row["score"]) for row in rows] == [t.score for t in trials]
    assert [float(row["eps"]) for row in rows] == [t.settings["eps"] for t in trials]
    text = (folder / "trials.md").read_text()
    best = best_of(trials, trials[0].study)
    first = next(line for line in text.splitlines() if line.startswith(f"| {best.number} |"))
    assert text.index(first) == min(text.index(f"| {t.number} |") for t in trials)
    assert "Importance: " in text
    for name in ("score-eps.png", "score-kl.png", "importance.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_finished_search_trains_nothing_and_more_trials_go_on(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "copy")
    trials, told = searched(pretend_tune.tuning(trials=6), folder)
    assert told == []
    trials, told = searched(pretend_tune.tuning(trials=7), folder)
    assert [e.number for e in told] == [6]
    assert len(trials) == 7
    assert adopt(pretend_tune.tuning(trials=2), folder).trials == 7  # there are as many already


def test_scores_of_another_task_are_not_mixed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = tmp_path / "mine.py"
    code.write_text("reward = 1\n")
    searched(pretend_tune.tuning(trials=2), tmp_path / "search")
    code.write_text("reward = 1  # of each\n")
    searched(pretend_tune.tuning(trials=3), tmp_path / "search")
    code.write_text("reward = 100\n")
    with pytest.raises(UserError, match=r"mine:env has changed since trial 0 .* another task"):
        searched(pretend_tune.tuning(trials=4), tmp_path / "search")
    assert len(notes(tmp_path / "search")) == 3


def test_another_search_does_not_join(whole):
    with pytest.raises(UserError, match=r"another space for mars; choose another --out, or go on"):
        adopt(pretend_tune.tuning({"eps": Choice((0.5, 1.0))}), whole[0])
    with pytest.raises(UserError, match=r"another pruner \('none', now 'median'\)"):
        adopt(pretend_tune.tuning(pruner="median"), whole[0])


# --- what counts ----------------------------------------------------------------------------------


def test_a_grid_is_trained_in_its_order(tmp_path):
    trials, _ = searched(pretend_tune.eps_grid(0.5, 2.0, 1.0), tmp_path / "search")
    assert [t.settings["eps"] for t in trials] == [0.5, 2.0, 1.0] == notes(tmp_path / "search")


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_no_settings_are_tried_twice_while_others_are_left(tmp_path, sampler):
    points = {"eps": Choice((0.2, 1.0, 2.0)), "actor_lr": Choice((1e-3, 2e-3))}
    searched(pretend_tune.tuning(points, 6, sampler), tmp_path / "search")
    assert sorted(notes(tmp_path / "search")) == [0.2, 0.2, 1.0, 1.0, 2.0, 2.0]
    trials, _ = searched(pretend_tune.tuning(points, 7, sampler), tmp_path / "search")
    assert len(trials) == 7  # there is no other; it is trained again


def test_what_diverged_or_failed_counts_as_the_worst(tmp_path, pretend):
    pretend(diverge=5.0, fail=50.0)
    trials, told = searched(pretend_tune.eps_grid(0.01, 8.0, 80.0, 1.0), tmp_path / "search")
    assert [t.state for t in trials] == ["scored", "failed", "failed", "scored"]
    assert [t.score for t in trials][1:3] == [float("-inf")] * 2
    assert trials[0].score < 0 < trials[3].score
    assert [e.status for e in told] == ["scored", "diverged", "failed", "scored"]
    assert trials[1].reason == "diverged"
    assert "no luck" in trials[2].reason
    assert best_of(trials, trials[0].study).number == 3
    assert notes(tmp_path / "search") == [0.01, 8.0, 80.0, 80.0, 1.0]  # what crashed, once more


def test_settings_that_cannot_be_trained_at_all_end_the_search(tmp_path, pretend):
    pretend(fail=0.1)
    with pytest.raises(UserError, match="the settings to start from cannot be trained: no luck"):
        searched(pretend_tune.tuning(), tmp_path / "search")
    pretend()
    trials, _ = searched(pretend_tune.tuning(), tmp_path / "search")  # mended
    assert len(trials) == 5
    assert {t.state for t in trials} == {"scored"}
    assert trials[0].settings["eps"] == pytest.approx(0.2)


def test_a_hopeless_trial_is_ended(tmp_path, pretend):
    pretend(slow=9.0, pause=0.6)  # 6 evaluations of 10.0
    tuning = pretend_tune.eps_grid(0.9, 1.0, 1.1, 1.2, 10.0, pruner="median")
    trials, told = searched(tuning, tmp_path / "search")
    assert [t.state for t in trials] == ["scored"] * 4 + ["pruned"]
    assert told[-1].status == "pruned"
    rows = (tmp_path / "search" / "trials" / "4" / "metrics.jsonl").read_text().splitlines()
    assert 0 < len(rows) < 7 * 4
    assert best_of(trials, trials[0].study).settings["eps"] == 1.0


def test_the_last_evaluation_ends_no_trial(tmp_path):
    tuning = pretend_tune.eps_grid(0.9, 1.0, 1.1, 1.2, 10.0, pruner="median")
    trials, _ = searched(tuning, tmp_path / "search")  # too fast to be ended
    assert (
        len((tmp_path / "search" / "trials" / "4" / "metrics.jsonl").read_text().splitlines()) == 28
    )
    assert trials[4].state in ("scored", "pruned")


# --- killed, and shared ---------------------------------------------------------------------------


def test_killed_at_work_it_goes_on_to_the_right_number(tmp_path):
    folder = tmp_path / "search"
    process = pretend_tune.launcher(folder, 5, hang=0.3)  # the start has 0.2
    log = folder / "trials" / "1" / "metrics.jsonl"
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 8)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    killed = notes(folder)[-1]
    trials, told = searched(pretend_tune.tuning(trials=5), folder)
    assert len(trials) == 5
    assert [t.number for t in trials] == [0, 2, 3, 4, 5]  # 1 was tried again
    assert [e.number for e in told] == [2, 3, 4, 5]
    # at once, or after another one where the killed one's run took a while to notice
    (again,) = [t.number for t in trials if t.settings["eps"] == killed]
    assert again >= 2
    assert not (folder / "trials" / "1").exists()  # its run went on
    assert (folder / "trials" / f"{again}.log").read_text().count("---") == 2
    assert Counter(notes(folder))[killed] == 2
    assert not list(folder.rglob("*.claim"))


def test_interrupted_it_says_how_to_go_on(tmp_path):
    folder = tmp_path / "search"
    process = pretend_tune.launcher(folder, 3, hang=0.1)
    wait_for((folder / "trials" / "0" / "metrics.jsonl").exists)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=WAIT)
    assert f"Interrupted: stopped; go on with: marsrl tune {folder}" in error
    trials, _ = searched(pretend_tune.tuning(trials=3), folder)
    assert [t.number for t in trials] == [1, 2, 3]


def test_two_processes_share_a_search(tmp_path):
    folder = tmp_path / "search"
    processes = [pretend_tune.launcher(folder, 6, slow=0.0, pause=0.05) for _ in range(2)]
    errors = [process.communicate(timeout=WAIT)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    tuning = read_tuning(folder)
    trials = read_trials(tuning, Studies(tuning, folder))
    assert [t.number for t in trials] == list(range(6))
    assert {t.state for t in trials} == {"scored"}
    assert sorted(notes(folder)) == sorted(t.settings["eps"] for t in trials)
    assert len(set(notes(folder))) == 6


def test_a_line_that_a_crash_cut_off_is_taken_off_the_journal(tmp_path):
    folder = tmp_path / "search"
    searched(pretend_tune.eps_grid(0.5, 1.0), folder)
    with (folder / "journal.log").open("a") as file:
        file.write('{"op_code": 4, "wor')
    trials, _ = searched(pretend_tune.eps_grid(0.5, 1.0), folder)
    assert [t.score for t in trials] == sorted(t.score for t in trials)
    assert (folder / "journal.log").read_text().endswith("}\n")


EDITED = [  # trials trained, what the space has then, and the reason
    (2, {"update_epochs": [2, 4, 8]}, r"update_epochs = \[2, 4, 8\] for mars, .* has 4 of Cat"),
    (2, {"update_epochs": [2, 8]}, r"update_epochs = \[2, 8\] for mars, "),
    (2, {"update_epochs": {"low": 2, "high": 4}}, r"update_epochs = \{.*\} for mars, .* 4 of Cat"),
    (2, {"eps": {"low": 0.1, "high": 0.8}}, r"eps = \{.*\} for mars, .* has 0.2 of Float"),
    (2, {"gamma": [0.9, 0.95]}, r"gamma = \[0.9, 0.95\] for mars, but trial 1 .* has none;"),
    (2, {"gamma": [0.9, 0.99]}, r"gamma = \[0.9, 0.99\] for mars, but trial 0 .* has none;"),
    (2, {"eps": None}, r"no eps for mars, but trial 0 in journal.log has 0.2 of Float"),
    (0, {"update_epochs": [2, 8]}, r"update_epochs = \[2, 8\] for mars, but trial 0 .* has 4;"),
    (0, {"eps": None}, r"no eps for mars, but trial 0 in journal.log has 0.2;"),
]


@pytest.mark.parametrize(("trained", "changes", "reason"), EDITED)
def test_a_space_that_is_not_that_of_the_journal_is_refused(tmp_path, trained, changes, reason):
    """Also where the first trial is queued, and none has begun."""
    space = {"eps": Uniform(0.2, 0.8), "update_epochs": Choice((2, 4))}
    tuning = adopt(pretend_tune.tuning(space, trials=2), tmp_path / "search")
    if trained:
        searched(tuning, tmp_path / "search")
    Studies(tuning, tmp_path / "search")
    content = dataclasses.replace(tuning, trials=3).to_dict()
    edited = content["studies"][0]["space"] | changes
    content["studies"][0]["space"] = {name: dim for name, dim in edited.items() if dim}
    (tmp_path / "search" / "tuning.json").write_text(json.dumps(content))  # it has no check
    for report in (False, True):
        with pytest.raises(UserError, match=rf"tuning\.json has {reason}"):
            Tune(str(tmp_path / "search"), report=report, trust=True, workers=1)()


def test_no_two_studies_or_tasks_share_a_folder(tmp_path):
    (study,) = pretend_tune.tuning().studies
    names = ["mars@a+b", "mars@a.b", "mars@A.b", "mars@eps=1e-3", "mars@eps=1e+3", "mars/lbf"]
    tasks = ["my.a:env", "my-a:env", "paxmen/4ag"]
    configs = tuple(pretend_tune.config(task=task) for task in tasks)
    studies = tuple(
        dataclasses.replace(study, name=name, objective="mars", configs=configs) for name in names
    )
    tuning = dataclasses.replace(pretend_tune.tuning(), studies=studies)
    places = [j.folder for s in studies for j in tuning.jobs(tmp_path, s, 0, None)]
    assert len({str(place).lower() for place in places}) == len(names) * len(tasks)
    assert places[-1] == tmp_path / "trials" / "mars-lbf" / "0" / "paxmen-4ag"  # as ever
    assert not any("." in part for place in places for part in place.relative_to(tmp_path).parts)


# --- suites ---------------------------------------------------------------------------------------

TASKS = ("lbf/8x8-2p-2f-coop", "paxmen/4ag", "lbf/2s-8x8-2p-2f-coop")
SETTINGS = {
    "total_steps": 32 * 6, "num_envs": 4, "rollout_length": 8, "num_minibatches": 1,
    "num_evaluations": 6, "core": "ff",
}  # fmt: skip


@pytest.fixture
def suite(tmp_path):
    suite = Suite("small", TASKS, ("mars", "mappo"), (0, 1), SETTINGS)
    (tmp_path / "small.toml").write_text(suite.to_toml())
    (tmp_path / "space.toml").write_text(
        "update_epochs = [1, 2]\n"
        "[objective.mars]\neps = { low = 0.5, high = 5.0, log = true, points = 2 }\n"
        "[objective.mappo]\neps = { low = 0.1, high = 0.9, log = true, points = 2 }\n"
    )
    return tmp_path / "small.toml"


def tuned(suite, monkeypatch, **more):
    monkeypatch.setattr(commands, "check_tasks", lambda _: None)
    folder = suite.parent / "search"
    space = suite.parent / "space.toml"
    Tune(str(suite), space=space, out=folder, sampler="grid", trials=4, **more)()
    tuning = read_tuning(folder)
    return tuning, read_trials(tuning, Studies(tuning, folder)), folder


def test_objectives_of_a_suite_get_equal_effort(suite, monkeypatch, capsys):
    config = Config(seeds=(100, 101), width=16)
    tuning, trials, folder = tuned(suite, monkeypatch, config=config, given=("width",))
    assert Counter(t.study.name for t in trials) == {"mars": 4, "mappo": 4}
    mars, mappo = tuning.studies
    assert [t.settings["update_epochs"] for t in trials if t.study is mars] == [1, 1, 2, 2]
    assert [c.task for c in mars.configs] == list(TASKS)
    assert all(c.width == 16 and c.seeds == (100, 101) for c in mappo.configs)
    found = read_suite(folder / "best.toml")
    assert (found.tasks, found.seeds, found.objectives) == (TASKS, (0, 1), ("mars", "mappo"))
    for study in tuning.studies:
        best = best_of(trials, study)
        for task in TASKS:
            made = found.config(task, study.objective)
            assert {name: getattr(made, name) for name in best.settings} == best.settings
            assert made.width == 16
    assert found.chosen_of("mars").startswith("marsrl tune: 4 trials of each study")
    printed = capsys.readouterr().out
    assert ": 4 trials each of mars, mappo\n" in printed
    assert "bench run" in printed


def test_the_score_is_the_mean_of_normalised_scores(suite, monkeypatch):
    _, trials, _ = tuned(suite, monkeypatch)
    for t in trials:
        value = 6 * (1 - abs(math.log10(t.settings["eps"])))
        scores = [(value - low) / (high - low) for low, high in t.study.bounds]
        assert t.score == pytest.approx(sum(scores) / 3)


def test_each_family_may_have_its_own(suite, monkeypatch):
    tuning, trials, folder = tuned(suite, monkeypatch, per_family=True)
    assert [s.name for s in tuning.studies] == [
        "mars/lbf", "mars/paxmen", "mappo/lbf", "mappo/paxmen",
    ]  # fmt: skip
    assert set(Counter(t.study.name for t in trials).values()) == {4}
    found = read_suite(folder / "best.toml")
    for study in tuning.studies:
        best = best_of(trials, study)
        for config in study.configs:
            assert found.config(config.task, study.objective).eps == best.settings["eps"]


# --- the command ----------------------------------------------------------------------------------

REFUSED = [
    ("tune --report", "--report needs the FOLDER"),
    ("tune nowhere", "no suite, nor file, is called 'nowhere'"),
    ("tune empty", "empty has no search for settings: it has no tuning.json"),
    ("tune --objective marz", "nearest are: mars"),
    ("tune --objectives mars mars", "must be different"),
    ("tune nano --objectives mars mars", "must be different"),
    ("tune --per-family", "--per-family is of a suite"),
    ("tune --trials 0", "trials is 0, expected at least 1"),
    ("tune --workers 0", "workers is 0"),
    ("tune --sampler grid", "the grid of mars has .* points, more than --trials 32"),
    ("tune --sampler grid --space unequal.toml --objectives mars mappo", "mars has 4, mappo has 2"),
    ("tune --smapler grid", "'--smapler' is not understood; did you mean --sampler"),
    ("tune --space wrong.toml", "wrong.toml: unknown setting 'epss'; did you mean eps"),
    ("tune --space divide.toml", "num_minibatches = 3 cannot be trained on paxmen/4ag: .*divide"),
    ("tune --space nowhere.toml", "cannot read nowhere.toml"),
    (
        "tune nano --seeds 4 5",
        r"seeds \[4\] are among those that nano reports on .*--seeds 102 103",
    ),
    ("tune nano --task paxmen/4ag", "--task is not for a suite"),
    ("tune lite --task paxmen/4ag", "--task is not for a suite"),  # a folder has this name too
    (
        "tune named.toml --objectives mars@eps=0.4 --eps 0.3",
        r"eps = 0.3 is given, but mars@eps=0.4 has eps = 0.4 by its name; expected no --eps,",
    ),
    ("tune nano --objectives marz", "nano has no objective 'marz'; did you mean mars"),
    ("tune --task mine:nothing", "mine has no factory 'nothing'"),
    ("tune --out full --total-steps 64", "full exists and is no search for settings"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refused")
    (folder / "mine.py").write_text("def env(): pass\n")
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "precious").touch()
    (folder / "lite").mkdir()
    (folder / "named.toml").write_text(SHARED)
    (folder / "wrong.toml").write_text("epss = [0.1, 0.2]\n")
    (folder / "unequal.toml").write_text(
        "[objective.mars]\neps = [0.2, 0.5, 1.0, 2.0]\n[objective.mappo]\neps = [0.1, 0.2]\n"
    )
    (folder / "divide.toml").write_text("num_minibatches = [2, 3]\n")
    before = sorted(folder.rglob("*"))
    results = run_all([command.split() for command, _ in REFUSED], folder)
    left = [path for path in sorted(folder.rglob("*")) if "__pycache__" not in str(path)]
    assert left == before
    return dict(zip([command for command, _ in REFUSED], results, strict=True))


@pytest.mark.parametrize(("command", "reason"), REFUSED)
def test_bad_input_is_one_line_and_code_2(refusals, command, reason):
    code, out, err, _ = refusals[command]
    assert (code, out) == (2, "")
    assert re.search(reason, err), err
    assert err.startswith("marsrl: ")
    assert err.count("\n") == 1


def test_without_optuna_one_line_says_what_to_type(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        UserError, match=r"optuna is not installed; type: pip install 'marsrl\[tune\]'"
    ):
        Tune(out=tmp_path / "search")()
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, "the task 'mine:env'"),
        ({"task": "paxmen/4ag", "objective": "mine:boom"}, "the objective 'mine:boom'"),
        ({"task": "paxmen/4ag", "network": "mine:net"}, "the network 'mine:net'"),
    ],
)
def test_code_that_a_folder_names_is_not_run_unasked(tmp_path, changes, named):
    tuning = pretend_tune.tuning()
    (study,) = tuning.studies
    configs = tuple(dataclasses.replace(config, **changes) for config in study.configs)
    study = dataclasses.replace(study, configs=configs)
    adopt(dataclasses.replace(tuning, studies=(study,)), tmp_path / "search")
    with pytest.raises(UserError, match=rf"tuning.json names {named}.*--trust"):
        Tune(str(tmp_path / "search"))()


@pytest.mark.parametrize("name", ["network", "width"])
def test_code_that_is_a_value_to_be_tried_is_not_run_unasked(tmp_path, name):
    """Also where the network is tied to what is chosen."""
    tuning = pretend_tune.tuning()
    (study,) = tuning.studies
    configs = tuple(dataclasses.replace(c, task="paxmen/4ag") for c in study.configs)
    tied = {} if name == "network" else {"network": Tied(name)}
    dimensions = {name: Choice(("mine:net", "mine:other"))} | tied
    study = dataclasses.replace(study, configs=configs, dimensions=dimensions)
    adopt(dataclasses.replace(tuning, studies=(study,)), tmp_path / "search")
    with pytest.raises(UserError, match=r"tuning.json names the network 'mine:net'.*--trust"):
        Tune(str(tmp_path / "search"))()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"space": []}, r"a study's space is \[\], expected a table"),
        ({"name": 3}, "a study's name is 3, expected a name"),
        ({"bounds": ["ab"]}, r"a study's bounds is \['ab'\], expected a list with null, or two"),
        ({"bounds": []}, "'mars' has not as many bounds as configs"),
        ({"trials": "x"}, "trials is 'x', expected a whole number"),
        ({"studies": []}, r"studies is \[\], expected a list of tables, and at least one"),
        ({"studies": [1]}, r"studies is \[1\], expected a list of tables"),
        ({"fixed": 3}, "fixed is 3, expected a list of names"),
        ({"sampler": [1]}, r"sampler is \[1\], expected one of tpe"),
        ({"suite": None, "score": None}, "score is None, expected one of last"),
        ({"space": {"critic_lr": {"tied": "nope"}}}, "critic_lr is tied to 'nope'"),
        ({"space": {"critic_lr": {"tied": "critic_lr"}}}, "critic_lr is tied to 'critic_lr'"),
    ],
)
def test_a_foreign_search_of_another_form_is_one_line(tmp_path, changes, reason):
    content = pretend_tune.tuning().to_dict()
    for name, value in changes.items():
        (content if name in content else content["studies"][0])[name] = value
    (tmp_path / "tuning.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"tuning.json: {reason}"):
        read_tuning(tmp_path)


def best_suite(
    folder, text, *without, objectives=(), space=None, per_family=False, as_they_are=False, **fixed
):
    """What a search of a suite would find, were it so, by study, and its best suite.

    Args:
        without: studies of which no trial has a score.
        as_they_are: whether the first trial was the best.
        fixed: as on the command line.
    """
    (folder / "before.toml").write_text(text)
    config = dataclasses.replace(Tune().config, **fixed)
    tune = Tune(
        config=config, objectives=objectives, space=space, per_family=per_family, given=(*fixed,)
    )
    tuning = tune._of_suite(read_suite(folder / "before.toml"))
    commands.check_best(tuning)
    found = {
        study.name: Trial(study, 0, "scored", 1.0, math.nan, 1.0, values, "")
        for number, study in enumerate(tuning.studies)
        for first in [{name: dim.ends()[0] for name, dim in free(study.dimensions).items()}]
        for values in [study.trial_settings(None if as_they_are else first)]
        for new in [{"eps": 0.3 + number / 100, "update_epochs": 2}]
        for values in [values | {k: new[k] for k in new if k in first and not as_they_are}]
        if study.name not in without
    }
    (best,) = best_files(tuning, [*found.values()]).values()
    (folder / "best.toml").write_text(best)
    return found, read_suite(folder / "best.toml")


INNER = """
name = "inner"
tasks = ["mpe/simple_spread_v3-3ag", "paxmen/4ag", "lbf/8x8-2p-2f-coop"]
objectives = ["mars", "mappo"]
seeds = [0, 1]
[objective.mars]
eps = 1.0
gamma = 0.9
family.mpe = { eps = 4.0, ent_coef = 0.1, gae_lambda = 0.5 }
task."paxmen/4ag" = { eps = 2.0, gamma = 0.8 }
"""


@pytest.mark.parametrize("per_family", [False, True])
def test_the_best_suite_trains_what_was_found_whatever_lay_over_it(tmp_path, per_family):
    without = ["mars/lbf"] if per_family else []
    found, best = best_suite(tmp_path, INNER, *without, per_family=per_family, gamma=0.7)
    for trial in found.values():
        for config in trial.study.configs:
            trained = best.config(config.task, trial.study.objective)
            assert trained.gamma == 0.7
            assert {name: getattr(trained, name) for name in trial.settings} == trial.settings
    assert best.config(best.tasks[0], "mars").gae_lambda == 0.5  # which was not tuned
    left = best.config("lbf/8x8-2p-2f-coop", "mars")
    assert (left.eps == 1.0) == per_family
    assert ("Not of lbf: no trial has a score" in best.chosen_of("mars")) == per_family
    assert "no trial" not in best.chosen_of("mappo")


@pytest.mark.parametrize("per_family", [False, True])
def test_where_the_settings_as_they_are_were_the_best_a_suite_stays_as_it_is(tmp_path, per_family):
    """Also where its tasks differ in what is tuned."""
    found, best = best_suite(tmp_path, INNER, per_family=per_family, as_they_are=True)
    before = read_suite(tmp_path / "before.toml")
    for trial in found.values():
        for config in trial.study.configs:
            label = trial.study.objective
            assert best.config(config.task, label) == before.config(config.task, label)
    assert ("eps" in found["mars/paxmen" if per_family else "mars"].settings) == per_family
    assert best.chosen_of("mars").startswith("marsrl tune")


SHARED = """
name = "shared"
tasks = ["mpe/simple_spread_v3-3ag", "lbf/8x8-2p-2f-coop"]
objectives = ["mars", "mars@eps=0.4", "mars@width=16", "mars@wide", "mappo", "maspo"]
seeds = [0, 1]
[chosen]
mars = "by hand"
mappo = "by its authors"
[objective.mars]
eps = 1.0
family.mpe.actor_lr = 0.002
[objective."mars@wide"]
eps = 2.0
"""
SPACE = """
eps = { low = 0.2, high = 0.9 }
actor_lr = { low = 1e-4, high = 4e-4, log = true }
critic_lr = { tied = "actor_lr" }
"""


@pytest.mark.parametrize(
    ("objectives", "without", "per_family"),
    [
        (("mars",), (), False),
        (("mars",), (), True),
        (("mars", "mars@width=16"), (), False),
        (("mars", "mars@width=16", "mappo"), ("mars@width=16",), False),
        (("mars", "mars@width=16"), ("mars/lbf", "mars@width=16/mpe"), True),
        (("mars@width=16",), (), False),
        (("mars@wide", "maspo"), ("maspo",), False),
    ],
)
def test_the_best_suite_changes_and_credits_only_what_was_tuned(
    tmp_path, objectives, without, per_family
):
    (tmp_path / "space.toml").write_text(SPACE)
    space = tmp_path / "space.toml"
    found, best = best_suite(
        tmp_path, SHARED, *without,
        objectives=objectives, space=space, per_family=per_family, gamma=0.7,
    )  # fmt: skip
    before = read_suite(tmp_path / "before.toml")
    new = {
        (config.task, trial.study.objective): trial.settings | {"gamma": 0.7}
        for trial in found.values()
        for config in trial.study.configs
    }
    for label in before.objectives:
        for task in before.tasks:
            right = dataclasses.replace(before.config(task, label), **new.get((task, label), {}))
            assert best.config(task, label) == right
        if any((task, label) in new for task in before.tasks):
            assert best.chosen_of(label).startswith("marsrl tune: 32 trials of each study")
        else:
            assert best.chosen_of(label) == before.chosen_of(label)


def test_what_had_no_words_does_not_get_those_of_what_was_tuned(tmp_path):
    text = re.sub(r"(?s)\[chosen\].*?\n(?=\[)", "", SHARED)
    assert Suite.from_dict(tomllib.loads(text)).chosen == ""
    (tmp_path / "space.toml").write_text(SPACE)
    _, best = best_suite(tmp_path, text, objectives=("mars",), space=tmp_path / "space.toml")
    assert best.chosen_of("mars").startswith("marsrl tune")
    assert best.chosen_of("mars@eps=0.4") == "as in the suite shared"
    assert best.chosen_of("mappo") == best.chosen_of("mars@wide") == ""


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            {"objectives": ("mars",), "space": "huber_delta = [1.0, 2.0]"},
            "mars@eps=0.4 has huber_delta = None on mpe.*with huber_delta = 1.0; expected a value",
        ),
        (
            {"objectives": ("mappo",), "space": "gamma = [0.8, 0.9]", "huber_delta": None},
            "mappo has huber_delta = None on mpe.* with huber_delta = 3.0",
        ),
    ],
)
def test_what_no_suite_can_say_is_refused_before_anything_starts(tmp_path, case, reason):
    text = SHARED + "[objective.mappo]\nhuber_delta = 3.0\n"
    (tmp_path / "space.toml").write_text(case["space"])
    with pytest.raises(UserError, match=reason):
        best_suite(tmp_path, text, **case | {"space": tmp_path / "space.toml"})


def test_an_option_is_fixed_though_the_space_file_has_the_setting(tmp_path):
    (tmp_path / "space.toml").write_text("actor_lr = [1e-3, 5e-3]\nupdate_epochs = [1, 2]\n")
    config = Config(seeds=(100, 101), actor_lr=7e-4)
    tune = Tune(config=config, space=tmp_path / "space.toml", given=("actor_lr", "space"))
    tuning = tune._of_task()
    (study,) = tuning.studies
    assert set(study.dimensions) == {"update_epochs"}
    assert tuning.fixed == ("actor_lr",)
    assert study.trial_configs({"update_epochs": 2})[0].actor_lr == 7e-4


def test_a_folder_goes_on_and_reports(tmp_path, capsys):
    folder = tmp_path / "search"
    adopt(pretend_tune.tuning(trials=1), folder)
    Tune(str(folder), trust=True, workers=1)()
    printed = capsys.readouterr().out
    assert ": 1 trial of mars\n" in printed
    assert "mars 0: scored" in printed
    assert "1 trial of each study" in (folder / "trials.md").read_text()
    (folder / "best.toml").unlink()
    Tune(str(folder), report=True)()
    printed = capsys.readouterr().out
    assert "mars: score" in printed
    assert "scored, " not in printed
    assert (folder / "best.toml").exists()
    with pytest.raises(UserError, match="says what it tunes: --eps cannot change it"):
        Tune(str(folder), given=("eps", "trials"))()


def test_others_that_train_are_told_by_the_exit_code(tmp_path):
    folder = tmp_path / "search"
    process = pretend_tune.launcher(folder, 1, hang=0.1)
    wait_for((folder / "trials" / "0" / "metrics.jsonl").exists)
    with pytest.raises(SystemExit) as end:
        Tune(str(folder), trust=True, workers=1)()
    assert end.value.code == 3
    process.kill()
    process.communicate()


def test_a_real_search(tmp_path):
    (tmp_path / "space.toml").write_text("eps = [0.2, 0.5]\n")
    words = (
        "tune --space space.toml --sampler grid --trials 2 --workers 1 --seeds 100 "
        "--total-steps 64 --num-envs 4 --rollout-length 8 --width 8 --core ff --num-minibatches 1 "
        "--update-epochs 1 --num-evaluations 2 --eval-episodes 2 --no-stagger --out search"
    )
    command = "from marsrl.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", command, *words.split()],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "mars 1: scored" in ended.stdout
    config = Config.from_dict(read_toml(tmp_path / "search" / "best.toml"))
    assert config.eps in (0.2, 0.5)
    assert (config.width, config.task, config.seeds) == (8, "paxmen/4ag", Config().seeds)
