"""The command line as a user meets it: what it refuses, and one short run through every command."""

import json
import os
import re
import subprocess
import sys
import warnings
from importlib.metadata import version

import pytest
from rich.table import Table

from commands import run_all
from marsrl import cli
from marsrl.console import PlainConsole
from marsrl.envs.tasks import TASKS
from marsrl.errors import Notice, UserError

TINY = {
    "--seeds": 0, "--total-steps": 64, "--num-envs": 4, "--rollout-length": 8, "--width": 8,
    "--num-minibatches": 1, "--update-epochs": 1, "--num-evaluations": 2, "--eval-episodes": 2,
}  # fmt: skip
TINY = ["--no-stagger", *(str(word) for pair in TINY.items() for word in pair)]

MINE = {
    "mine": "def env(): pass\ndef boom(): raise RuntimeError('no luck')\ndef needs(x): pass",
    "broken": "def env(:",
    "gone": "import no_such_thing",
}

REFUSED = [
    ("train --task paxmen/4agg", "unknown task 'paxmen/4agg'; did you mean paxmen/4ag"),
    ("train --task paxman/4ag", "no known family; did you mean paxmen?"),
    ("config --task paxman/4ag", "no known family; did you mean paxmen?"),
    ("train --task mine", "'mine' is no task; for a factory in mine.py: mine:FACTORY"),
    ("train --network none", "network = 'none' must be module:factory .*, or None for marsrl's"),
    ("train --task nowhere:env", "importing 'nowhere' .*ModuleNotFoundError"),
    ("train --task broken:env", "importing 'broken' .*SyntaxError"),
    ("train --task gone:env", "importing 'gone' .*no_such_thing"),
    ("train --task mine:nothing", "mine has no factory 'nothing'"),
    ("train --task mine:boom", "making 'mine:boom' raised RuntimeError: no luck"),
    ("train --task mine:needs", "making 'mine:needs' raised TypeError"),
    ("train --task mine:env", "mine:env breaks the environment interface.*check-env mine:env"),
    ("check-env :env", "':env' is no factory; expected module:factory"),
    ("check-env .mine:env", "'.mine:env' is no factory"),
    ("train --task paxmen/4ag --task-settings num_agnts 5", "'num_agnts'; did you mean num_agents"),
    ("train --task paxmen/4ag --task-settings num_agents 9", "num_agents.*9.*nearest"),
    ("train --objective marz", "nearest are: mars"),
    ("train --rollout-length 50 --chunk-length 7", "chunk_length = 7 does not divide.*nearest.*5"),
    ("train --eps -0.1", "-0.1"),
    ("train --out full", "full exists; choose another --out$"),
    ("train --out mine.py", "mine.py exists; choose another --out$"),
    ("train --out old/mars", "old/mars exists.*continue it with: marsrl resume old/mars$"),
    ("train --out mine.py/run", "cannot create the run folder mine.py/run"),
    ("resume full", "full is not a run folder"),
    ("evaluate full", "full is not a run folder"),
    ("compare --objectives mars mars", "must be at least 2 different ones"),
    ("compare --out full", "full exists; choose another --out$"),
    ("compare --out begun", "begun exists.*continue it with --resume$"),
    ("compare --out old --resume", "older marsrl; see it with: marsrl compare --runs old/mars$"),
    ("compare --out old", "old is of an older marsrl"),
    ("compare --runs old/mars", "runs: got 1, expected at least 2"),
    ("compare --runs full full", "full is not a run folder"),
    ("compare --task paxmen/4ag --task-settings num_agnts 5", "'num_agnts'; did you mean"),
    ("compare --log wandbb", "log: 'wandbb' is no follower; did you mean wandb"),
    ("compare --bounds 0 1", "bounds: those of paxmen/4ag are the benchmark's"),
    ("check-env paxmen/4ag --task-settings agents 5", "no setting 'agents'.*num_agents"),
    ("check-env smax/2s3", "unknown task 'smax/2s3'; did you mean smax/2s3z"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refused")
    for name, source in MINE.items():
        (folder / f"{name}.py").write_text(f"{source}\n")
    (folder / "full").mkdir()
    (folder / "full" / "precious").touch()
    (folder / "old" / "mars").mkdir(parents=True)
    (folder / "old" / "mars" / "config.json").touch()
    (folder / "begun").mkdir()
    (folder / "begun" / "suite.toml").touch()
    before = sorted(folder.rglob("*"))
    results = run_all([c.split() for c, _ in REFUSED], folder)
    left = [path for path in sorted(folder.rglob("*")) if "__pycache__" not in str(path)]
    return dict(zip([c for c, _ in REFUSED], results, strict=True)), before, left


@pytest.mark.parametrize(("command", "reason"), REFUSED)
def test_bad_input_is_one_line_and_code_2(refusals, command, reason):
    code, out, err, programs = refusals[0][command]
    assert code == 2
    assert programs == 0
    assert re.search(reason, err), err
    assert err.startswith("marsrl: ")
    assert err.count("\n") == 1
    assert out == ""


def test_a_refusal_leaves_no_trace(refusals):
    _, before, left = refusals
    assert left == before


@pytest.mark.parametrize(
    ("args", "named"), [("--num-env 8", "--num-envs"), ("--num-envs many", "--num-envs")]
)
def test_flags_are_checked_by_name_and_type(tmp_path, args, named):
    ((code, out, err, _),) = run_all([["train", *args.split()]], tmp_path)
    assert code == 2
    assert named in out + err


def test_an_option_of_the_task_sets_the_defaults(tmp_path):
    ((code, out, _, _),) = run_all([["train", "--task", "lbf/8x8-2p-2f-coop", "--help"]], tmp_path)
    assert code == 0
    assert "(default: lbf/8x8-2p-2f-coop)" in out
    assert "(default: ff)" in out


def test_the_list_of_tasks_fits_a_terminal(tmp_path):
    ((code, out, _, _),) = run_all([["envs"]], tmp_path, columns=80)
    assert code == 0
    for name in TASKS:
        assert f"{name} " in out


def test_the_last_option_counts(tmp_path):
    tasks = ["--task", "paxmen/4ag", "--task", "lbf/8x8-2p-2f-coop"]
    ((_, out, _, _),) = run_all([["train", *tasks, "--help"]], tmp_path)
    assert "(default: ff)" in out


def marsrl(folder, *words, **environment):
    """One command in a process of its own, as `python -m marsrl`."""
    return subprocess.run(
        [sys.executable, "-m", "marsrl", *words],
        cwd=folder,
        env=os.environ | {"COLUMNS": "80"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_without_words_it_helps(tmp_path):
    result = marsrl(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "train" in result.stdout
    assert marsrl(tmp_path, "--version").stdout == f"marsrl {version('marsrl')}\n"


def test_a_device_that_is_not_here_is_one_line(tmp_path):
    result = marsrl(tmp_path, "doctor", JAX_PLATFORMS="no_such")
    assert result.returncode == 2
    assert result.stderr.startswith("marsrl: JAX_PLATFORMS is 'no_such'")
    assert result.stderr.count("\n") == 1


def fault(monkeypatch, capsys, error, *words):
    """What becomes of an exception inside a command: exit code and standard error."""

    def raise_it(*_):
        raise error

    monkeypatch.setattr(cli, "configure_jax", raise_it)
    with pytest.raises(SystemExit) as end:
        cli.main(list(words or ["envs"]))
    return end.value.code, capsys.readouterr().err


def test_a_fault_of_the_program_is_one_line_and_its_traceback_a_file(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, err = fault(monkeypatch, capsys, ZeroDivisionError("odd\n\x1b[31m thing"))
    assert code == 1
    assert err.startswith("marsrl: ZeroDivisionError: odd: a fault of marsrl or of your code")
    assert err.count("\n") == 1
    (kept,) = tmp_path.iterdir()
    assert err.rstrip().endswith(f"for a bug report: {kept}")
    assert "raise_it" in kept.read_text()
    assert "['envs']" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0  # of nobody else


def test_a_traceback_that_cannot_be_kept_is_said(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    code, err = fault(monkeypatch, capsys, RecursionError())
    assert (code, err.count("\n")) == (1, 1)
    assert "could not be kept" in err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("\x1b[31mred [/x]"), 2, "marsrl: ?[31mred [/x]\n"),
        (FileNotFoundError(2, "No such file", "x"), 2, "marsrl: [Errno 2] No such file: 'x'\n"),
        (KeyboardInterrupt(), 130, "marsrl: interrupted\n"),
    ],
    ids=["user", "system", "interrupt"],
)
def test_what_ends_a_command_has_its_code(monkeypatch, capsys, error, code, said):
    assert fault(monkeypatch, capsys, error) == (code, said)


def test_an_interrupted_training_says_how_it_goes_on(monkeypatch, capsys):
    code, err = fault(monkeypatch, capsys, KeyboardInterrupt(), "train", "--out", "runs/x")
    assert (code, err) == (
        130,
        "marsrl: interrupted; a run that has begun goes on: marsrl resume RUN\n",
    )


def test_a_warning_of_marsrl_is_a_line_said_once_and_others_are_as_they_were(monkeypatch, capsys):
    def command():
        for message in ("a file\x1b is damaged", "so is another"):
            for _ in range(2):
                warnings.warn(message, Notice, stacklevel=2)
        warnings.warn("somebody else's", stacklevel=2)

    others = []
    monkeypatch.setattr(cli, "parse", lambda *_: command)
    monkeypatch.setattr(cli, "configure_jax", lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, *_, **__: others.append(str(message))
        cli.main(["envs"])
    assert capsys.readouterr().err == "marsrl: a file? is damaged\nmarsrl: so is another\n"
    assert others == ["somebody else's"]


def test_whoever_stops_reading_is_no_fault(tmp_path):
    command = f"{sys.executable} -m marsrl envs | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode in (0, 141)  # it may have written all before the reader ended
    assert result.stderr == ""


def test_names_are_text_on_the_console(capsys):
    console = PlainConsole(width=80)
    table = Table("[/x]")
    table.add_row("\x1b[31m:smile:")
    console.print(table)
    console.print("[bold]m:f[/x]")
    out = capsys.readouterr().out
    for text in ("[/x]", "?[31m:smile:", "[bold]m:f[/x]"):
        assert text in out


def test_every_command_runs(tmp_path):
    commands = [
        ["envs"],
        ["train", *TINY, "--out", "run"],
        ["resume", "run"],
        ["evaluate", "run", "--episodes", "3", "--json"],
        ["render", "run", "--out", "episode.gif", "--every", "20"],
        ["compare", *TINY, "--objectives", "mars", "mappo", "--out", "both", "--log", "csv"],
    ]
    results = run_all(commands, tmp_path)
    assert [code for code, *_ in results] == [0] * len(commands), results
    (mappo,) = (tmp_path / "both").glob("runs/*/mappo-*/seeds-0")
    (again,) = run_all([["compare", "--runs", "run", str(mappo), "--out", "again"]], tmp_path)
    assert again[0] == 0, again
    assert "rware/tiny-2ag-hard" in results[0][1]
    assert results[1][3] > 0  # programs compiled: the count above means something
    assert len(json.loads(results[3][1])["returns"]) == 3
    for made in ("run/learning_curve.png", "run/episode.gif", "episode.gif"):
        assert (tmp_path / made).stat().st_size > 0
    for out in ("both", "again"):
        assert (tmp_path / out / "index.html").stat().st_size > 10_000
        assert (tmp_path / out / "figures" / "curves.png").stat().st_size > 1000
    assert list((tmp_path / "both").glob("runs/*/*/seeds-0/logs/csv/*"))
    assert "mars against mappo is not settled" in results[5][1]
    assert "mars against mappo is not settled" in again[1]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "finished"
