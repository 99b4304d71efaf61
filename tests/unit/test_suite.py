import pytest

from marsrl.bench.suite import Suite, read_suite, select_tasks
from marsrl.config import Config
from marsrl.envs.tasks import FAMILIES, TASKS
from marsrl.errors import UserError
from marsrl.presets import preset

TOML = """
name = "mine"
tasks = ["paxmen/4ag", "lbf/*"]
objectives = ["mars", "mappo"]
seeds = [3, 1]
seeds_per_job = 1
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
    assert suite.tasks == tuple(TASKS)
    assert suite.objectives == ("mars", "maspo", "mappo")


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


def test_ids_are_stable_and_know_no_order(suite):
    assert suite.config("paxmen/4ag", "mars").hash == "8bb08767d759"
    backwards = Suite(
        name="other",
        tasks=suite.tasks[::-1],
        objectives=("mappo", "mars"),
        seeds=(1, 2, 3),
        settings={"width": 16, "total_steps": 1000},
    )
    assert backwards.config("paxmen/4ag", "mars").hash == "8bb08767d759"
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
    ('"lbf/*"', '"lbg/*"', "unknown task 'lbg/\\*'"),
    ("width = 16", "widht = 16", "unknown setting settings.widht; did you mean width"),
    ("width = 16", "width = 'x'", "mars on paxmen/4ag: width = 'x' has the wrong type"),
    ("width = 16", "seeds = [1]", "settings.seeds must stand at the top"),
    ("[family.lbf]", "[family.lbg]", r"unknown family 'lbg' in \[family.lbg\]; did you mean lbf"),
    ("lbf/10x10-3p-3f", "lbf/10x10-3p", "unknown task 'lbf/10x10-3p' in .*did you mean"),
    ("[family.lbf]", "[familie.lbf]", "unknown key 'familie'; did you mean family"),
    ("[settings]", "family = 3\n[settings]", "mine.toml: .*"),
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
        UserError, match=r"mine.toml, line 7: unknown setting task.paxmen/4ag.widht"
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
