import numpy as np
import pytest

from marsrl.bench.records import RunRecord
from marsrl.report import wording
from marsrl.report.bootstrap import Estimate
from marsrl.report.curves import Efficiency
from marsrl.report.verdict import Contest, Duel, Evidence

LBF, OTHER, SMAX = "lbf/8x8-2p-2f-coop", "lbf/10x10-3p-3f", "smax/2s3z"


def duel(verdict, value=-0.05, low=-0.07, high=-0.032, tasks=(LBF, OTHER, SMAX), confidence=0.95):
    difference = Estimate(*np.array([value, low, high]))
    return Duel(tasks, difference, confidence, Evidence(1.0, 1.0, 1.0), verdict=verdict)


def contest(overall, families=None, tasks=None):
    return Contest("mars", "mappo", overall, families or {}, tasks or {}, {})


@pytest.mark.parametrize(
    ("verdict", "head"),
    [
        ("exceeds", "mars exceeds mappo:"),
        ("matches", "mars matches mappo within 0.03:"),
        ("behind", "mars is behind mappo:"),
        ("not settled", "mars against mappo is not settled:"),
    ],
)
def test_the_answer_is_one_sentence_with_its_interval(verdict, head):
    said = wording.answer(contest(duel(verdict)), 0.03)
    assert said == (
        head,
        "its mean score is −0.050 apart, 95 % interval −0.070 to −0.032, on 3 tasks in 2 families.",  # noqa: RUF001
    )


def test_the_answer_where_there_is_less_to_say():
    one = duel("not settled", 0.1, 0.0, 0.2, tasks=(LBF,), confidence=0.9)
    _, rest = wording.answer(contest(one), 0.03)
    assert rest == "its mean score is +0.100 apart, 90 % interval 0.000 to +0.200, on 1 task."
    _, rest = wording.answer(contest(one._replace(confidence=0.0)), 0.03)
    assert rest == "its mean score is +0.100 apart, on 1 task."
    nothing = ("mars against mappo: no task is complete for both.", "")
    assert wording.answer(contest(None), 0.03) == nothing


def test_places_name_families_where_they_hold_several_tasks():
    families = {"lbf": duel("exceeds"), "smax": duel("not settled")}
    tasks = {LBF: duel("exceeds"), OTHER: duel("behind"), SMAX: duel("not settled")}
    assert wording.places(contest(None, families, tasks)) == [
        "Exceeds on the family lbf.",
        "Not settled on the family smax.",
        f"Exceeds on 1 task: {LBF}.",
        f"Behind on 1 task: {OTHER}.",
        f"Not settled on 1 task: {SMAX}.",
    ]
    both = {"lbf": duel("exceeds"), "mpe": duel("exceeds")}
    assert wording.places(contest(None, both, tasks))[0] == "Exceeds on the families lbf, mpe."
    # 47 names would say no more than this
    every = {name: duel("not settled") for name in (LBF, OTHER, SMAX)}
    assert wording.places(contest(None, both, every)) == [
        "Exceeds on the families lbf, mpe.",
        "Not settled on each of the 3 tasks by itself.",
    ]


def test_what_scores_are_of():
    assert wording.endpoint_name("last", 1.0) == "the last parameters, on new episodes"
    assert wording.endpoint_name("last", 0.0) == "the last parameters, in the last evaluation"
    assert "or, of some runs, in the last" in wording.endpoint_name("last", 0.5)
    assert "best evaluation's" in wording.endpoint_name("best", 1.0)
    rules = wording.rules(0.05, "area", 0.0, 1)
    assert "Scores are of the mean of the evaluations over training." in rules
    assert "settled to be above −0.050" in rules  # noqa: RUF001
    assert "corrected for 1 contest," in rules


def test_few_seeds():
    assert "nothing is settled" in wording.seeds_note(1, 0.0, judged=True)
    two, three = (wording.seeds_note(n, x, judged=True) for n, x in ((2, 2 / 3), (3, 0.9)))
    assert "its interval is the 67 % one" in two
    assert ("over several tasks" in two, "over several tasks" in three) == (True, False)
    assert wording.seeds_note(4, 0.95, judged=True) is None


def test_where_nothing_is_judged_few_seeds_settle_no_less():
    one = "With one seed an interval is the point itself."
    assert wording.seeds_note(1, 0.0, judged=False) == one
    assert wording.seeds_note(2, 2 / 3, judged=False) is None


def run(commit="a" * 40, dirty=False, jax="1"):
    git = {"commit": commit, "dirty": dirty} if commit else None
    return RunRecord("t", "o", "", 0, "done", machine={"cores": 1}, versions={"jax": jax}, git=git)


def test_where_runs_are_from_is_one_sentence():
    a = "a" * 12
    assert wording.identity([run(), run()]) == f"Runs are of the commit {a}."
    mixed = [run(), run("b" * 40, dirty=True), run(dirty=True, jax="2")]
    assert wording.identity(mixed) == (
        "Runs are of 2 commits, 2 of 3 with changes that were not committed; with several versions "
        "of jax."
    )
    assert wording.identity([run(None)]) == "All runs are of an installed package."
    assert wording.identity([run(), run(None)]).endswith(f"{a}, 1 of an installed package.")
    assert wording.identity([RunRecord("t", "o", "", 0, "missing")]) == ""


def test_ratios_say_where_measuring_ends():
    assert wording.ratio(np.exp(-20.0)) == "below 1e-08"
    assert wording.ratio(0.25) == "0.25"
    assert wording.ratio(np.nan) == "not measured"
    assert wording.small(0.0123456) == "0.012"
    assert wording.difference(0.0001) == "0.000"


def test_the_board_says_who_is_not_on_it():
    done = {"mars": 3, "mappo": 3, "new": 1}
    text = wording.board(("mars", "mappo"), (LBF, OTHER), done, (LBF, OTHER, SMAX))
    assert text == (
        "Over 2 of 3 tasks: those on which every seed of mars, mappo has ended. Left out: "
        f"{SMAX}. Not part of it, since too few of its tasks are complete: new (1 task complete)."
    )


def test_budgets_and_times_are_told_as_they_are():
    def curves(*totals):
        zeros = np.zeros((1, 2))
        return Efficiency(np.array(totals), np.zeros(2), Estimate(zeros, zeros, zeros))

    same = wording.efficiency_note({"steps": curves(1e5, 1e5), "time": curves(60, 60)}, [3], True)
    assert same.startswith("Every task was given 100,000 environment steps.")
    assert "Time is wall time; a run that is over" in same
    text = wording.efficiency_note({"steps": curves(1e5, 2e5)}, [], False)
    assert "differ between tasks (100,000 to 200,000 environment steps)" in text
    assert text.endswith("Wall time was not measured.")
    text = wording.efficiency_note({"steps": curves(1e5, 2e5)}, [], True)
    assert text.endswith("Wall time was not measured on every task.")


def test_counts():
    words = [wording.count(n, noun) for n, noun in ((1, "family"), (2, "family"), (1000, "run"))]
    assert words == ["1 family", "2 families", "1,000 runs"]
