"""The summary of a workdir against numbers computed from its files with scipy."""

import json

import numpy as np
import pytest
from scipy import stats
from synthetic_workdir import ARMS, write_workdir

from research.config import UserError
from research.report.runs import read_experiment
from research.report.summary import summarise
from research.report.wording import how_it_was_run, notes


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp("norms"))


@pytest.fixture(scope="module")
def summary(workdir):
    return summarise(read_experiment(workdir))


def results(workdir, arm):
    paths = sorted((workdir / arm).glob("seed_*/result.json"))
    return {r["seed"]: r for r in (json.loads(p.read_text()) for p in paths)}


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def panel(summary, metric):
    return next(p for p in summary["panels"] if p["metric"] == metric)


def test_shape_is_the_contract(summary):
    assert (summary["experiment"], summary["scale"]) == ("normalization", "laptop")
    metrics = {p["metric"]: p["direction"] for p in summary["panels"]}
    assert metrics == {"test/accuracy": "max", "test/loss": "min", "steps_to_accuracy": "min"}
    for p in summary["panels"]:
        assert p["baseline"] == "batch"
        assert list(p["arms"]) == ARMS
        for arm, entry in p["arms"].items():
            assert {"n", "diverged", "mean", "ci95", "difference"} <= set(entry)
            if arm == "batch":
                assert entry["difference"] is None
            else:
                assert {"mean", "ci95", "p_holm"} <= set(entry["difference"])
    json.dumps(summary, allow_nan=False)


def test_means_and_intervals_are_those_of_the_files(workdir, summary):
    for arm in ("none", "batch", "layer", "group"):
        losses = [r["metrics"]["test/loss"] for r in results(workdir, arm).values()]
        entry = panel(summary, "test/loss")["arms"][arm]
        assert (entry["n"], entry["mean"]) == (5, pytest.approx(np.mean(losses)))
        expected = stats.t.interval(0.95, 4, loc=np.mean(losses), scale=stats.sem(losses))
        assert entry["ci95"] == pytest.approx(expected)


def test_differences_are_paired_over_the_seeds_both_have(workdir, summary):
    base = results(workdir, "batch")
    instance = results(workdir, "instance")
    assert sorted(instance) == [0, 1, 2, 3]  # seed 4 has not ended
    pairs = [
        instance[s]["metrics"]["test/loss"] - base[s]["metrics"]["test/loss"] for s in instance
    ]
    difference = panel(summary, "test/loss")["arms"]["instance"]["difference"]
    assert difference["mean"] == pytest.approx(np.mean(pairs))
    expected = stats.t.interval(0.95, 3, loc=np.mean(pairs), scale=stats.sem(pairs))
    assert difference["ci95"] == pytest.approx(expected)
    assert difference["p"] == pytest.approx(stats.ttest_1samp(pairs, 0).pvalue)
    assert difference["p_holm"] >= difference["p"]


def test_holm_runs_over_the_arms_of_a_panel(summary):
    arms = panel(summary, "test/loss")["arms"]
    tests = [e["difference"] for e in arms.values() if e["difference"]]
    assert len(tests) == 5
    smallest = min(tests, key=lambda d: d["p"])
    assert smallest["p_holm"] == pytest.approx(5 * smallest["p"])
    largest = max(tests, key=lambda d: d["p"])
    assert largest["p_holm"] == pytest.approx(max(largest["p"], *(t["p_holm"] for t in tests)))


def test_a_diverged_run_enters_accuracy_at_chance_and_nothing_else(workdir, summary):
    rest = [
        r["metrics"]["test/accuracy"]
        for r in results(workdir, "local_response").values()
        if r["status"] != "diverged"
    ]
    accuracy = panel(summary, "test/accuracy")["arms"]["local_response"]
    assert (accuracy["n"], accuracy["diverged"]) == (5, 1)
    assert accuracy["mean"] == pytest.approx((sum(rest) + 0.1) / 5)
    loss = panel(summary, "test/loss")["arms"]["local_response"]
    assert (loss["n"], loss["diverged"]) == (4, 1)
    assert loss["seeds"]["3"] is None


def test_a_run_that_has_not_ended_is_missing(summary):
    assert summary["arms"]["instance"]["missing"] == [4]
    assert panel(summary, "test/accuracy")["arms"]["instance"]["n"] == 4
    assert any("instance: 4 of 5 runs have ended" in line for line in notes(summary))


def test_steps_never_reached_are_left_out_and_counted(tmp_path):
    write_workdir(tmp_path, arms=["batch", "none"], diverged=(), unfinished=())
    path = tmp_path / "none" / "seed_2" / "result.json"
    metrics = json.loads(path.read_text())["metrics"] | {"steps_to_accuracy": None}
    edit(path, metrics=metrics)
    summary = summarise(read_experiment(tmp_path))
    entry = panel(summary, "steps_to_accuracy")["arms"]["none"]
    others = [
        r["metrics"]["steps_to_accuracy"] for s, r in results(tmp_path, "none").items() if s != 2
    ]
    assert entry["mean"] == pytest.approx(np.mean(others))
    assert (entry["n"], entry["reached"], entry["ended"]) == (4, 4, 5)
    assert any("reached by 4 of 5 runs" in line for line in notes(summary))


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    write_workdir(tmp_path, arms=["batch", "none"], seeds=[3])
    summary = summarise(read_experiment(tmp_path))
    entry = panel(summary, "test/accuracy")["arms"]["none"]
    assert (entry["n"], entry["ci95"], entry["sd"]) == (1, None, None)
    assert entry["difference"]["ci95"] is None
    assert entry["difference"]["p_holm"] is None
    assert any(line.startswith("A single seed") for line in notes(summary))


def test_equal_runs_do_not_differ(tmp_path):
    write_workdir(tmp_path, arms=["batch", "none"], diverged=(), unfinished=())
    for seed in range(5):
        metrics = results(tmp_path, "batch")[seed]["metrics"]
        edit(tmp_path / "none" / f"seed_{seed}" / "result.json", metrics=metrics)
    for p in summarise(read_experiment(tmp_path))["panels"]:
        difference = p["arms"]["none"]["difference"]
        assert (difference["mean"], difference["p_holm"]) == (0.0, 1.0)
        assert difference["ci95"] == [0.0, 0.0]


@pytest.mark.parametrize("change", [{"baseline": "layer"}, {"baseline": None}])
def test_without_its_baseline_nothing_is_compared(tmp_path, change):
    write_workdir(tmp_path, arms=["batch", "none"], **change)
    for p in summarise(read_experiment(tmp_path))["panels"]:
        assert all(entry["difference"] is None for entry in p["arms"].values())


def test_a_baseline_without_ended_runs_compares_nothing(tmp_path):
    write_workdir(tmp_path, arms=["batch", "none"], unfinished=[("batch", s) for s in range(5)])
    entry = summarise(read_experiment(tmp_path))["panels"][0]["arms"]
    assert entry["batch"]["mean"] is None
    assert entry["none"]["difference"] is None


def test_runs_that_all_diverged_are_a_result(tmp_path):
    write_workdir(tmp_path, arms=["batch"], diverged=[("batch", s) for s in range(5)])
    summary = summarise(read_experiment(tmp_path))
    entry = panel(summary, "test/accuracy")["arms"]["batch"]
    assert (entry["mean"], entry["diverged"]) == (pytest.approx(0.1), 5)
    assert panel(summary, "test/loss")["arms"]["batch"]["n"] == 0


def test_different_commits_and_versions_are_told(tmp_path):
    write_workdir(tmp_path, arms=["batch", "none"], seeds=range(2))
    edit(
        tmp_path / "none" / "seed_1" / "result.json",
        git={"commit": "beef" * 10, "dirty": True},
        versions={"jax": "0.12.0"},
    )
    summary = summarise(read_experiment(tmp_path))
    assert [found["runs"] for found in summary["provenance"]["git"]] == [3, 1]
    text = " ".join(notes(summary))
    assert "differ in git commit" in text
    assert "beefbeefbe" in text
    assert "jax 0.12.0" in text
    assert "uncommitted" in text


def test_augmentation_is_told_arm_by_arm_where_it_differs(tmp_path):
    write_workdir(tmp_path, arms=["batch", "none"], seeds=range(1))
    told = lambda: how_it_was_run(summarise(read_experiment(tmp_path))).get("augmentation")  # noqa: E731
    assert told() is None
    declared = {"data": {"augment": ["pad_crop", "rotate(degrees=15)"]}}
    edit(tmp_path / "batch" / "seed_0" / "result.json", config=declared)
    assert told() == "batch: pad_crop, rotate(degrees=15); none: none"
    edit(tmp_path / "none" / "seed_0" / "result.json", config=declared)
    assert told() == "pad_crop, rotate(degrees=15)"


def test_runs_that_the_experiment_does_not_name_are_told(tmp_path):
    write_workdir(tmp_path, arms=["batch", "none"], seeds=range(3))
    edit(tmp_path / "experiment.json", seeds=[0, 1], arms=["batch"])
    summary = summarise(read_experiment(tmp_path))
    assert summary["undeclared"] == ["batch/seed_2", *(f"none/seed_{s}" for s in range(3))]


def test_a_choice_at_the_edge_of_its_grid_is_told(summary):
    edges = [line for line in notes(summary) if "edge of its grid" in line]
    assert len(edges) == 1
    assert edges[0].startswith("optimizer.learning_rate = 0.03") and edges[0].endswith(": none.")


def test_what_was_not_seen_comes_with_what_could_have_been(summary):
    """Of the arms without a significant difference only, in the first panel."""
    (line,) = [line for line in notes(summary) if line.startswith("Not distinguished from batch")]
    panel = summary["panels"][0]["arms"]
    for arm, entry in panel.items():
        unseen = bool(entry["difference"]) and entry["difference"]["p_holm"] >= 0.05
        assert (f" {arm} " in line.partition(":")[2]) == unseen
        if (
            unseen and entry["difference"]["n"] > 3
        ):  # an effect just as large as its own interval is found about half the time
            low, high = entry["difference"]["ci95"]
            assert 1 < entry["difference"]["detectable"] / ((high - low) / 2) < 1.6


def test_a_metric_nobody_logged_names_the_nearest(tmp_path):
    panels = [{"metric": "test/acuracy", "direction": "max"}]
    write_workdir(tmp_path, arms=["batch"], panels=panels)
    with pytest.raises(UserError, match=r"'test/acuracy'.*nearest.*'test/accuracy'"):
        summarise(read_experiment(tmp_path))


def test_a_panel_of_what_no_run_has_logged_is_left_out(tmp_path):
    asked = ("test/error_rate", "test/accuracy")
    panels = [{"metric": metric, "direction": "max"} for metric in asked]
    write_workdir(tmp_path, arms=["batch"], panels=panels)
    shown = summarise(read_experiment(tmp_path))["panels"]
    assert [panel["metric"] for panel in shown] == ["test/accuracy"]


def test_unreadable_workdirs_are_named(tmp_path):
    with pytest.raises(UserError, match=r"--workdir: found no experiment\.json in"):
        read_experiment(tmp_path / "nowhere")
    write_workdir(tmp_path, arms=["batch"], seeds=[0], unfinished=[("batch", 0)])
    with pytest.raises(UserError, match="found no ended run"):
        read_experiment(tmp_path)
    (tmp_path / "batch" / "seed_0" / "result.json").write_text('{"status": ')
    with pytest.raises(UserError, match=r"result\.json: expected a JSON object"):
        read_experiment(tmp_path)
