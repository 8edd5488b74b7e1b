"""The ledger: its rule by hand, its numbers against the summaries' own, and what is committed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from research.config import UserError
from research.report.claims import (
    NOT_SUPPORTED,
    SUPPORTED,
    UNDECIDED,
    judge,
    read_claims,
    together,
)
from research.report.ledger import ledger_data, ledger_page
from research.report.statistics import seeds_for

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "experiments"

# The claims that the project's specification lists, by what they begin with, and their questions.
LISTED = {
    "Skip connections": [12, 85, 102],
    "Batch normalisation": [88, 103],
    "Layer norm": [98, 125],
    "Gradient clipping": [108, 110, 117],
    "Gates": [111, 112, *range(123, 128)],
    "Tanh vs ReLU vs sigmoid recurrence": [107, 108],
    "Truncated BPTT": [125],
    "Convolution beats": [4, 5, 73, 92],
    "Pooling gives": [6, 76, 81],
    "Max against average": [79],
    "Augmentation, dropout": [7, 88, 91],
    "Initialisation decides": [91, 108],
    "Dead units": [1, 75, 89],
    "Depthwise separable": [86],
    "Fine-tuning": [10, 13, 14, 99],
    "A distilled student": [68],
    "Int8": [69],
    "Ensembles": [91],
    "Attention helps": [122, 125],
    "Bidirectional": [118],
    "Weight sharing": [5, 95],
    "Padding": [78, 85],
    "Adaptive optimisers": [91],
    "LSTM converges": [112, 123],
    "Domain mismatch": [13],
    "A GPU trains": [70, 71],
}


@pytest.fixture(scope="module")
def rows():
    return read_claims(FOLDER)


@pytest.fixture(scope="module")
def cases(rows):
    return [case for row in rows for claim in row["claims"] for case in claim["cases"]]


@pytest.mark.parametrize(
    ("interval", "kind", "verdict"),
    [
        ([0.2, 3.0], "higher", SUPPORTED),
        ([0.2, 0.8], "higher", NOT_SUPPORTED),  # it is, but by less than matters
        ([-0.5, 0.8], "higher", NOT_SUPPORTED),  # none, to within what matters
        ([-3.0, -2.0], "higher", NOT_SUPPORTED),  # the other way round
        ([-0.5, 1.5], "higher", UNDECIDED),
        ([-0.5, 1.5], "no lower", SUPPORTED),
        ([-0.5, 0.5], "no lower", SUPPORTED),
        ([-1.5, 0.5], "no lower", UNDECIDED),
        ([-1.5, -0.5], "no lower", NOT_SUPPORTED),
        ([-0.9, -0.5], "no lower", SUPPORTED),  # lower, but by less than matters
        ([-0.5, 0.5], "equal", SUPPORTED),
        ([-0.5, 1.5], "equal", UNDECIDED),
        ([0.5, 1.5], "equal", NOT_SUPPORTED),
        ([2.0, 3.0], "equal", NOT_SUPPORTED),
    ],
)
def test_the_rule_by_hand_where_1_matters(interval, kind, verdict):
    assert judge(interval, kind, 1.0) == verdict
    mirrored = {"higher": "lower", "no lower": "no higher"}.get(kind, kind)
    assert judge([-interval[1], -interval[0]], mirrored, 1.0) == verdict


@pytest.mark.parametrize("kind", ["higher", "lower", "no lower", "no higher", "equal"])
def test_an_interval_narrower_than_what_matters_decides(kind):
    """Which is what makes the seeds that `seeds_for` returns enough."""
    for low in np.linspace(-3, 3, 241):
        assert judge([low, low + 0.999], kind, 1.0) != UNDECIDED
        if judge([low, low + 1.5], kind, 1.0) == UNDECIDED:
            assert low <= 0 <= low + 1.5


def test_cases_that_disagree_depend_and_most_must_be_decided():
    assert together([SUPPORTED, UNDECIDED], "depth") == SUPPORTED
    assert together([SUPPORTED, UNDECIDED, UNDECIDED], "depth") == UNDECIDED
    assert together([NOT_SUPPORTED, SUPPORTED, UNDECIDED], "depth") == "depends on depth"
    assert together([UNDECIDED, UNDECIDED], "depth") == UNDECIDED


@pytest.mark.parametrize("width", [0.1, 1.0, 5.0])
def test_seeds_that_would_decide_are_the_fewest_by_brute_force(width):
    differences = np.random.default_rng(0).normal(0.2, 1.0, 6)
    found, deviation = seeds_for(differences, width), differences.std(ddof=1)

    def wide(n):
        low, high = stats.t.interval(0.95, n - 1, scale=deviation / math.sqrt(n))
        return high - low

    assert wide(found) < width
    assert all(wide(n) >= width for n in range(2, found))
    if found > 100:  # the normal distribution's formula
        assert found == pytest.approx((2 * 1.96 * deviation / width) ** 2, rel=0.03)


def test_every_claim_of_the_specification_has_its_row_and_a_verdict(rows):
    found = {row["row"]: row["questions"] for row in rows}
    for beginning, questions in LISTED.items():
        (row,) = [row for row in found if row.startswith(beginning)]
        assert found[row] == questions, row
    for row in rows:
        assert row["claims"], row["row"]
        for claim in row["claims"]:
            verdict = claim["verdict"].split(" on ")[0]
            assert verdict in (SUPPORTED, NOT_SUPPORTED, "depends", UNDECIDED), claim["id"]


def test_what_is_undecided_says_what_would_decide_it(cases):
    for case in cases:
        assert (case["verdict"] == UNDECIDED) == ("needs" in case), case["id"]
        if "needs" in case:
            assert case["needs"] > case.get("seeds", 1), case["id"]


def test_effects_are_those_that_the_summaries_state(cases):
    """Where a case compares an arm with what the report does, its numbers are the report's."""
    compared = 0
    for case in cases:
        path = FOLDER / case["experiment"] / "results" / case["scale"] / "summary.json"
        if not path.is_file() or "shown" in case:
            continue
        panels = {p["metric"]: p for p in json.loads(path.read_text())["panels"]}
        entry = panels.get(case.get("metric"), {"arms": {}})["arms"].get(case["arm"], {})
        if not case["baseline"] or entry.get("reference") != case["baseline"] or case["ratio"]:
            continue
        if entry["difference"]["ci95"]:
            assert case["effect"] == pytest.approx(entry["difference"]["mean"])
            assert case["ci95"] == pytest.approx(entry["difference"]["ci95"])
            if case.get("detectable"):
                stated = entry["difference"].get("detectable", case["detectable"])
                assert case["detectable"] == pytest.approx(stated)
            compared += 1
    assert compared >= 40


def test_the_committed_ledger_is_what_the_summaries_give(rows):
    written = "write it again: python launch.py --mode=claims"
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == ledger_page(rows), written
    assert (FOLDER / "claims.json").read_text(encoding="utf-8") == ledger_data(rows), written


def test_what_is_shown_by_a_test_has_that_test(cases):
    for case in cases:
        if "by" in case:
            path, _, name = case["by"].partition("::")
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


CASE = """
[[row]]
row = "A row"
questions = [1]
[[row.claims]]
id = "one"
says = "A claim"
experiment = "pooling"
metric = "test/accuracy"
arm = "max"
baseline = "average"
kind = "higher"
matters = 0.01
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"max"', '"maxx"', "one: arm of pooling: found 'maxx'.*did you mean 'max'"),
        ("test/accuracy", "tset/loss", "one: metric of pooling: found 'tset/loss'.*'test/loss'"),
        ('"higher"', '"hihger"', "one: kind: found 'hihger'.*did you mean 'higher'"),
    ],
)
def test_a_claim_that_cannot_be_judged_says_why(tmp_path, old, new, message):
    (tmp_path / "claims.toml").write_text(CASE.replace(old, new))
    (tmp_path / "pooling").symlink_to(FOLDER / "pooling")
    with pytest.raises(UserError, match=message):
        read_claims(tmp_path)


def test_a_count_that_some_runs_never_reached_is_not_averaged(tmp_path):
    text = CASE.replace("pooling", "optimizers").replace("test/accuracy", "steps_to_accuracy")
    text = text.replace('"max"', '"none-adam"').replace('"average"', '"none-sgd"')
    (tmp_path / "claims.toml").write_text(text)
    (tmp_path / "optimizers").symlink_to(FOLDER / "optimizers")
    with pytest.raises(UserError, match=r"never reached.*compare reached/"):
        read_claims(tmp_path)
    (tmp_path / "claims.toml").write_text(text.replace('"steps_to', '"reached/steps_to'))
    (case,) = read_claims(tmp_path)[0]["claims"][0]["cases"]
    assert (case["effect"], case["seeds"]) == (pytest.approx(6 / 8 - 2 / 8), 8)
