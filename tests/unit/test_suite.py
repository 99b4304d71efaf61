import dataclasses
import itertools
import json
import tomllib
from pathlib import Path

import pytest

from marsrl import extras
from marsrl.bench.commands import Run
from marsrl.bench.suite import Suite, read_suite, select_tasks
from marsrl.config import Config
from marsrl.envs.tasks import FAMILIES, TASKS, Bounds, family_of, library_of
from marsrl.errors import UserError
from marsrl.presets import preset

DOCS = Path(__file__).parents[2] / "docs"

TOML = """
name = "mine"
tasks = ["paxmen/4ag", "lbf/*"]
objectives = ["mars", "mappo"]
seeds = [3, 1]
seeds_per_job = 1
chosen = "by hand"
[settings]
total_steps = 1000
width = 16
[family.lbf]
width = 32
task_settings = { num_food = 3 }
[task."lbf/10x10-3p-3f"]
width = 48
actor_lr = 1e-4
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    return read_suite(path)


# --- what comes with marsrl ----------------------------------------------------------------------


def test_nano_is_the_factorial_on_a_task_of_each_family():
    nano = read_suite("nano")
    assert {task.partition("/")[0] for task in nano.tasks} == set(FAMILIES)
    assert len(nano.tasks) == len(FAMILIES)
    assert len(nano.objectives) == 6
    regions = {name: nano.config("lbf/8x8-2p-2f-coop", name).make_objective().region for name in
               nano.objectives}  # fmt: skip
    additive = {name for name, region in regions.items() if region.lower == 0.8}
    assert additive == {"mappo", "maspo", "mars-additive"}


@pytest.mark.parametrize("name", ["lite", "full"])
def test_the_others_have_all_tasks(name):
    suite = read_suite(name)
    assert sorted(suite.tasks) == sorted(TASKS)
    assert suite.objectives == ("mars", "maspo", "mappo")


def test_lite_trains_the_tasks_of_fair_as_fair_does():
    lite, fair = read_suite("lite"), read_suite("fair")
    assert set(lite.seeds) < set(fair.seeds)
    for task, objective in itertools.product(fair.tasks, fair.objectives):
        mine, its = (
            dataclasses.replace(s.config(task, objective), seeds=(0,)) for s in (lite, fair)
        )
        assert mine == its


@pytest.mark.parametrize("name", ["fair", "equal-kl", "equal-kl-paxmen", "regimes", "lite"])
def test_a_suite_is_still_the_one_whose_results_are_published(name):
    """Presets may change, but not what `marsrl bench run` of these suites repeats."""
    suite = read_suite(name)
    runs = json.loads((DOCS / name / "runs.json").read_text())["runs"]
    trained = {(run["task"], run["objective"]): run["run"] for run in runs}
    assert len(trained) >= 3
    assert trained == {key: suite.config(*key).hash for key in trained}


def test_full_is_the_protocol():
    suite = read_suite("full")
    assert suite.seeds == tuple(range(10))
    for task in suite.tasks:
        config = suite.config(task, "mars")
        assert config.total_steps == 20_000_000
        assert config.num_evaluations == 122
        assert config.eval_episodes == 32


# --- reading -------------------------------------------------------------------------------------


def test_tasks_expand_in_the_order_of_the_table(suite):
    lbf = [task for task in TASKS if task.startswith("lbf/")]
    assert suite.tasks == ("paxmen/4ag", *lbf)
    assert select_tasks(("lbf/10*", "lbf/*"), suite.tasks)[0] == "lbf/10x10-3p-3f"


def test_the_nearest_setting_wins(suite):
    pax, lbf = suite.config("paxmen/4ag", "mars"), suite.config("lbf/15x15-3p-5f", "mars")
    named = suite.config("lbf/10x10-3p-3f", "mappo")
    assert (pax.width, lbf.width, named.width) == (16, 32, 48)
    assert named.actor_lr == 1e-4
    assert lbf.task_settings == {"num_food": 3}
    assert {c.total_steps for c in (pax, lbf, named)} == {1000}
    assert lbf.core == preset("lbf/15x15-3p-5f").core == "ff"
    assert (named.task, named.objective, named.seeds) == ("lbf/10x10-3p-3f", "mappo", (3, 1))


def test_a_suite_survives_its_own_file(suite, tmp_path):
    path = tmp_path / "again.toml"
    path.write_text(suite.to_toml())
    assert read_suite(path) == suite
    assert Suite.from_dict(suite.to_dict()) == suite


def test_how_settings_were_found_is_said_of_all_methods_or_of_each(suite):
    assert [suite.chosen_of(name) for name in suite.objectives] == ["by hand", "by hand"]
    methods = ("mars", "mars@wide", "mappo@eps=0.1")
    words = {"mars": "16 trials", "mars@wide": "wider"}
    each = Suite("s", ("paxmen/4ag",), methods, (0,), chosen=words)
    assert [each.chosen_of(name) for name in methods] == ["16 trials", "wider", ""]


def test_ids_are_stable_and_know_no_order(suite):
    assert suite.config("paxmen/4ag", "mars").hash == "72f9d020bf59"
    backwards = Suite(
        name="other",
        tasks=suite.tasks[::-1],
        objectives=("mappo", "mars"),
        seeds=(1, 2, 3),
        settings={"width": 16, "total_steps": 1000},
    )
    assert backwards.config("paxmen/4ag", "mars").hash == "72f9d020bf59"
    cells = [suite.config(t, o).hash for t in suite.tasks for o in suite.objectives]
    assert len(set(cells)) == len(cells)


REFUSED = [
    ('seeds = [3, 1]', "seeds = [3, 1", r"mine.toml: .*line \d+, column"),
    ('name = "mine"', "", "mine.toml: name is missing"),
    ('name = "mine"', "name = 5", "name is 5, expected a string"),
    ("seeds = [3, 1]", "sedes = [3, 1]", "unknown key 'sedes'; did you mean seeds"),
    ("seeds = [3, 1]", "seeds = [3, 3]", r"seeds is \[3, 3\], expected a list of different whole"),
    ("seeds = [3, 1]", "seeds = [true]", "seeds is .*whole numbers"),
    ("seeds = [3, 1]", "seeds = []", "seeds is .*whole numbers"),
    ("seeds = [3, 1]", "seeds = [-1]", "mars on paxmen/4ag: seeds = .*from 0"),
    ("seeds_per_job = 1", "seeds_per_job = 0", "seeds_per_job is 0, expected at least 1"),
    ('"mappo"]', '"mapo"]', "mapo on paxmen/4ag: unknown objective 'mapo'; the nearest.*mappo"),
    ('"mappo"]', '"ma\\u001bppo"]', r"objectives has 'ma\\x1bppo', expected 1 to 200 printable"),
    ('"mappo"]', '""]', "objectives has '', expected 1 to 200 printable"),
    ('name = "mine"', 'name = "a\\nb"', r"name has 'a\\nb', expected 1 to 200 printable"),
    ('"mappo"]', '"no_such:f"]', "importing 'no_such' of 'no_such:f' raised ModuleNotFoundError"),
    ('"paxmen/4ag"', '"paxmen/4agg"', "unknown task 'paxmen/4agg'; did you mean paxmen/4ag"),
    ('"lbf/*"', '"lbg/*"', "no task is like 'lbg/\\*'; families: rware, lbf,"),
    ("width = 16", "widht = 16", "unknown setting settings.widht; did you mean width"),
    ("width = 16", "width = 'x'", "mars on paxmen/4ag: width = 'x' has the wrong type"),
    ("width = 16", "seeds = [1]", "settings.seeds must stand at the top"),
    ("[family.lbf]", "[family.lbg]", r"unknown family 'lbg' in \[family.lbg\]; did you mean lbf"),
    ("lbf/10x10-3p-3f", "lbf/10x10-3p", "unknown task 'lbf/10x10-3p' in .*did you mean"),
    ("[family.lbf]", "[familie.lbf]", "unknown key 'familie'; did you mean family"),
    ("[settings]", "family = 3\n[settings]", "mine.toml: .*"),
    ('chosen = "by hand"', "chosen = 3", "chosen is 3, expected 1 to 500 printable characters"),
    ('chosen = "by hand"', "chosen = {mras = 'x'}", "unknown objective 'mras' in .*mean mars"),
    ('chosen = "by hand"', "chosen = {mars = ''}", "chosen.mars is '', expected 1 to 500"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), REFUSED)
def test_a_wrong_suite_is_refused_by_file_and_key(old, new, message, tmp_path):
    assert TOML.count(old) == 1
    path = tmp_path / "mine.toml"
    path.write_text(TOML.replace(old, new))
    with pytest.raises(UserError, match=message) as caught:
        read_suite(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    line = TOML[: TOML.index(old)].count("\n") + 1
    if new and message[0] != "m":  # what is missing, or is not TOML, has no such line
        assert f"mine.toml, line {line}: " in str(caught.value)


def test_a_wrong_suite_is_refused_by_line_even_if_it_is_inline(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TOML.partition("[settings]")[0] + 'task = { "paxmen/4ag" = { widht = 1 } }\n')
    with pytest.raises(
        UserError, match=r"mine.toml, line 8: unknown setting task.paxmen/4ag.widht"
    ):
        read_suite(path)


def test_an_unknown_suite_is_refused():
    with pytest.raises(UserError, match="'nanno'; did you mean nano"):
        read_suite("nanno")


def test_default_settings_are_the_preset():
    suite = Suite("s", ("smax/2s3z",), ("mars",), (0,))
    assert suite.config("smax/2s3z", "mars") == preset("smax/2s3z", seeds=(0,)).settled()
    assert isinstance(suite.config("smax/2s3z", "mars"), Config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + "[" * 9_000, "it is nested too deeply"),
        (".".join("a" * 50_000) + " = 1", "line 1 has a key of more than 32 parts"),
        ("x = " + "9" * 5_000, "a whole number of more than 20 digits"),
        ("name = [" + "1, " * 500 + "]", r"name is \[1, 1, .*\.\.\.\], expected a string"),
    ],
)
def test_a_suite_without_end_is_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "endless.toml"
    path.write_text(f'{text}\ntasks = ["paxmen/4ag"]\nobjectives = ["mars"]\nseeds = [0]\n')
    with pytest.raises(UserError, match=message) as caught:
        read_suite(path)
    assert len(str(caught.value)) < 400 + len(str(path))
    assert "\n" not in str(caught.value)


def test_a_suite_of_bytes_and_a_folder_are_refused(tmp_path):
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"bytes.toml is no text.*can't decode"):
        read_suite(path)
    with pytest.raises(UserError, match="no suite, nor file"):
        read_suite(tmp_path)


# --- methods: objectives with settings of their own ----------------------------------------------


def suite_of(text, **changes):
    head = {"tasks": ["paxmen/4ag", "lbf/10x10-3p-3f"], "objectives": ["mars", "mappo"]}
    values = {"name": "methods", "seeds": [0]} | head | tomllib.loads(text) | changes
    suite = Suite.from_dict(values)
    assert Suite.from_dict(tomllib.loads(suite.to_toml())) == suite
    return suite


TUNED = """
objectives = ["mars", "mars@wide", "mappo"]
[settings]
eps = 0.3
width = 16
[family.lbf]
eps = 0.25
[task."lbf/10x10-3p-3f"]
actor_lr = 5e-4
[objective.mars]
eps = 1.0
actor_lr = 1e-3
family.lbf = { eps = 2.0 }
task."paxmen/4ag" = { eps = 3.0 }
[objective."mars@wide"]
eps = 4.0
"""


def test_an_objective_has_settings_over_those_of_the_suite():
    suite = suite_of(TUNED)
    pax, lbf = suite.tasks
    eps = {(t, m): suite.config(t, m).eps for t in suite.tasks for m in suite.objectives}
    assert eps == {
        (pax, "mars"): 3.0, (pax, "mars@wide"): 4.0, (pax, "mappo"): 0.3,
        (lbf, "mars"): 2.0, (lbf, "mars@wide"): 4.0, (lbf, "mappo"): 0.25,
    }  # fmt: skip
    rates = [suite.config(lbf, method).actor_lr for method in suite.objectives]
    assert rates == [1e-3, 5e-4, 5e-4]  # a name of its own: none of [objective.mars]
    assert {suite.config(pax, method).objective for method in suite.objectives} == {"mars", "mappo"}
    assert {suite.config(t, m).width for t in suite.tasks for m in suite.objectives} == {16}


def test_what_methods_differ_in_is_told_for_each_task():
    suite = suite_of(TUNED)
    configs = {x: suite.config("lbf/10x10-3p-3f", x).to_dict() for x in suite.objectives}
    first = configs["mars"]
    differing = [name for name in first if any(x[name] != first[name] for x in configs.values())]
    assert {label: {name: x[name] for name in differing} for label, x in configs.items()} == {
        "mars": {"objective": "mars", "eps": 2.0, "actor_lr": 1e-3},
        "mars@wide": {"objective": "mars", "eps": 4.0, "actor_lr": 5e-4},
        "mappo": {"objective": "mappo", "eps": 0.25, "actor_lr": 5e-4},
    }


def test_a_sweep_is_crossed_with_every_objective_in_order():
    suite = suite_of("[sweep]\neps = [0.1, 0.4]\nactor_lr = [1e-3, 2e-3]")
    assert suite.objectives == tuple(
        f"{name}@eps={eps},actor_lr={rate}"
        for name in ("mars", "mappo")
        for eps in ("0.1", "0.4")
        for rate in ("0.001", "0.002")
    )
    config = suite.config("paxmen/4ag", "mappo@eps=0.4,actor_lr=0.001")
    assert (config.objective, config.eps, config.actor_lr) == ("mappo", 0.4, 1e-3)


def test_an_objective_may_have_axes_of_its_own():
    suite = suite_of("""
        objectives = ["mars", "mars@slow", "mappo", "maspo", "mappo@eps=0.25"]
        sweep.eps = [0.1, 0.2]
        [objective.mars]
        actor_lr = 1e-3
        sweep.eps = [1, 4.0]
        [objective."mars@slow"]
        actor_lr = 1e-5
        [objective.maspo.sweep]
        eps = []
    """)
    assert suite.objectives == (
        "mars@eps=1", "mars@eps=4.0", "mars@slow,eps=0.1", "mars@slow,eps=0.2",
        "mappo@eps=0.1", "mappo@eps=0.2", "maspo", "mappo@eps=0.25",
    )  # fmt: skip
    rates = [suite.config("paxmen/4ag", label).actor_lr for label in suite.objectives[:3]]
    assert rates == [1e-3, 1e-3, 1e-5]
    assert suite.objective_settings == {"mars": {"actor_lr": 1e-3}, "mars@slow": {"actor_lr": 1e-5}}


BAD_METHODS = [
    ("[objective.marz]\neps = 1", "unknown objective 'marz' in .objective.marz., .*mean mars", 6),
    ("[objective.mars]\nepps = 1", "unknown setting objective.mars.epps; did you mean eps", 7),
    ("[objective.mars]\nseeds = [1]", "objective.mars.seeds must stand at the top", 7),
    ("[objective.mars]\nwidth = 0", "mars on paxmen/4ag: width = 0 must be greater than 0", 7),
    ("[objective.mars.family.lbg]\neps = 1", "unknown family 'lbg'.*did you mean lbf", 6),
    ('[objective.mars.task."lbf/10x10-3p-3f"]\neps = -1', "mars on lbf.*eps", 7),
    ("[objective.mappo]\neps = -3.0", "mappo on paxmen/4ag: .*eps", 7),
    ("[sweep]\neps = [0.1, -1.0]", "mars@eps=-1.0 on paxmen/4ag: .*eps", 7),
    ("[objective.mars.sweep]\neps = [-1.0]", "mars@eps=-1.0 on paxmen/4ag: .*eps", 7),
    ("[sweep]\neps = []", r"sweep.eps is \[\], expected a list of different values", 7),
    ("[sweep]\neps = [1, 1.0]", r"sweep.eps is \[1, 1.0\], expected a list of different", 7),
    ("[sweep]\neps = 1", "sweep.eps is 1, expected a list of different values", 7),
    ("[sweep]\nseeds = [1]", "sweep.seeds must stand at the top of the suite", 7),
    ("[sweep]\ntask_settings = [{ a = 1 }]", "sweep.task_settings is .*list of different", 7),
    ("[sweep]\ncore = ['f f']", "'f f' cannot be part of a name, .*give such a setting in a t", 3),
    (f"[sweep]\neps = {[*range(1, 502)]}", "mappo has 501 points, expected at most 1,000 of", 3),
    ("[settings]\npoints = 1\n", "unknown setting settings.points", 7),
]  # fmt: skip


@pytest.mark.parametrize(("tables", "message", "line"), BAD_METHODS)
def test_a_wrong_method_is_refused_by_line(tables, message, line, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntasks = ["paxmen/4ag", "lbf/10x10-3p-3f"]\n'
        f'objectives = ["mars", "mappo"]\nseeds = [0]\npoints_per_job = 2\n{tables}\n'
    )
    with pytest.raises(UserError, match=message) as caught:
        read_suite(path)
    assert f"mine.toml, line {line}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (["mars", "mars@"], "'mars@' is no name of a method"),
        (["mars@eps=x"], "mars@eps=x on paxmen/4ag: eps = 'x' has the wrong type"),
        (["mars@epps=1"], "mars@epps=1 on paxmen/4ag: unknown setting 'epps'; did you mean eps"),
        (["mars@task=x"], "mars@task=x on paxmen/4ag: task is no setting that a name can make"),
        (["mars", "mars@same"], "mars and mars@same have the same settings on every task"),
        (["mars", "mars@total_steps=9"], "mars@total_steps=9 on paxmen/4ag have total_steps = .*9"),
        (
            ["mars", "mappo", "mars@num_envs=96"],
            "mars and mars@num_envs=96 on paxmen/4ag have num_envs x rollout_length = 128 x 50 and "
            "96 x 50 and are evaluated after different steps: .* nearest: total_steps = 1536000",
        ),
    ],
)
def test_methods_that_cannot_be_told_apart_or_compared_are_refused(objectives, message):
    suite = Suite("s", ("paxmen/4ag",), tuple(objectives), (0,))
    with pytest.raises(UserError, match=message) as caught:
        suite.check()
    assert caught.value.places[-1] == ("objectives",)


def test_updates_may_be_of_different_sizes_where_evaluations_meet():
    methods = ("mars", "mars@num_envs=96", "mars@num_envs=64")
    Suite("s", ("paxmen/4ag",), methods, (0,), {"total_steps": 2_688_000}).check()


def test_a_point_that_is_there_by_name_too_is_refused():
    with pytest.raises(UserError, match=r"mars@eps=0.1 is there twice, by name and by a sweep"):
        suite_of("[sweep]\neps = [0.1]", objectives=["mars", "mars@eps=0.1"])


# --- a suite's own tasks --------------------------------------------------------------------------

OWN = """
tasks = ["paxmen/4ag", "my_module:make", "envs/mine.py:make", "jaxmarl:MPE_simple_v3"]
[bounds."my_module:make"]
low = -1
high = 2.5
[bounds."envs/mine.py:make"]
low = 0
high = 1
[bounds."jaxmarl:MPE_simple_v3"]
low = 0
high = 1
[family.my_module]
width = 8
[task."my_module:make"]
total_steps = 1000
"""


def test_a_task_of_ones_own_has_bounds_and_a_family(tmp_path, monkeypatch):
    suite = suite_of(OWN)
    assert suite.bounds_of("my_module:make") == Bounds(-1, 2.5)
    assert suite.bounds_of("paxmen/4ag") == Bounds(-9.339, 91.76)
    families = ["paxmen", "my_module", "envs/mine.py", "jaxmarl"]
    assert [family_of(task) for task in suite.tasks] == families
    config = suite.config("my_module:make", "mars")
    assert (config.task, config.width, config.total_steps) == ("my_module:make", 8, 1000)
    made, default = suite.config("envs/mine.py:make", "mars"), Config(task="envs/mine.py:make")
    assert made.to_dict() | {"seeds": [], "eps": 0} == default.to_dict() | {"seeds": [], "eps": 0}
    monkeypatch.chdir(tmp_path)
    suite.check(make=False, names=False)  # as a store's is read
    for make in (True, False):
        with pytest.raises(UserError, match="'my_module:make' names no module: there is no my_mod"):
            suite.check(make)
    (tmp_path / "envs").mkdir()
    for path in ("my_module.py", "envs/mine.py"):
        (tmp_path / path).write_text("raise SystemExit('it ran')")  # nothing is imported
    suite.check()


def test_a_module_that_is_called_like_a_family_is_none_of_it():
    assert family_of("lbf:make") == "lbf:make"
    assert family_of("lbf/8x8-2p-2f-coop") == "lbf"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tasks = ["my_module:make"]', "'my_module:make' has no known bounds of scores; give the"),
        ('tasks = ["jaxmarl:MPE"]', r'no known bounds .*\[bounds."jaxmarl:MPE"\] with low = '),
        ('bounds."paxmen/4ag" = { low = 0, high = 1 }', "the bounds of the benchmark's tasks are"),
        ('bounds."m:f" = { low = 1, high = 0 }', "low = 1 and high = 0, expected low < high"),
        ('bounds."m:f" = { low = 1 }', 'bounds."m:f": high is missing, expected a mean return'),
        ('bounds."m:f" = { low = nan, high = 1 }', "low is nan, expected a mean return"),
        ('bounds."m:f" = { low = true, high = 2 }', "low is True, expected a mean return"),
        ('bounds."m:f" = { lo = 0, high = 1 }', "unknown key 'lo'; did you mean low"),
        ('bounds."m:f" = 3', "is 3, expected low = ..., high = ..."),
        ("bounds = 3", "bounds is 3, expected tables"),
        ("bounds.paxmen = { low = 0, high = 1 }", "'paxmen' is no task; expected module:factory"),
    ],
)  # fmt: skip
def test_wrong_bounds_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        suite_of(text)


def test_an_installed_task_must_be_installed_where_a_suite_is_named():
    bounds = 'tasks = ["levers/long"]\n[bounds."levers/long"]\nlow = 0\nhigh = 1'
    suite = suite_of(bounds)
    assert family_of(suite.tasks[0]) == "levers"
    suite.check(make=False, names=False)
    with pytest.raises(UserError, match="'levers/long' is of no known family"):
        suite.check()


# --- what a suite's tasks need ------------------------------------------------------------------


def test_the_library_of_a_task():
    libraries = {family: library_of(f"{family}/task") for family in FAMILIES}
    ours = {"paxmen": None, "aerojax": None}
    jumanji = dict.fromkeys(("rware", "lbf", "connector"), ("jumanji",) * 2)
    assert libraries == ours | jumanji | dict.fromkeys(("mpe", "smax", "mabrax"), ("jaxmarl",) * 2)
    assert library_of("jaxmarl:MPE_simple_tag_v3") == ("jaxmarl", "jaxmarl")
    assert library_of("gymnasium:CartPole-v1") == ("gymnasium", "pettingzoo")
    assert library_of("pettingzoo:mine.py:make") == ("pettingzoo", "pettingzoo")
    assert [library_of(name) for name in ("smax:make", "levers:make", "other/task")] == [None] * 3


def test_a_library_that_is_not_here_is_named_once_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    store = tmp_path / "store"
    with pytest.raises(UserError, match=r"^jumanji is not installed; .*'marsrl\[jumanji\]'$"):
        Run(suite="nano", store=store)()
    assert not store.exists()
