"""The report of designs with none, one and two axes, against numbers from the files."""

import csv
import json
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from factorial_workdir import write_factorial
from synthetic_workdir import ARMS as NORMS

from research.config import UserError
from research.experiment import cross, levels
from research.report import publish, report, table
from research.report.plots.final_metrics import final_metrics
from research.report.plots.interactions import interactions
from research.report.plots.style import STYLE, png
from research.report.runs import read_experiment
from research.report.summary import summarise
from research.report.tables import effects_table, map_tables
from research.report.wording import notes

DEPTHS = (8, 20, 32, 44, 56)
SKIP, DEPTH, RATE = "model.skip", "model.depth", "optimizer.learning_rate"
CROSSED = {
    "none": (
        cross(levels("model.norm", *NORMS[:2]), levels(SKIP, "none", "identity")),
        ("model.norm", SKIP),
        "none-none",
    ),
    "one": (
        cross(levels(DEPTH, *DEPTHS, prefix="d"), levels(SKIP, "none", "identity")),
        (DEPTH, SKIP),
        "d8-none",
    ),
    "two": (
        cross(
            levels(SKIP, "none", "identity"),
            levels(DEPTH, 8, 20, prefix="d"),
            levels(RATE, 0.01, 0.1, 1.0, prefix="lr"),
        ),
        (SKIP, DEPTH, RATE),
        "none-d8-lr0.01",
    ),
}
PLOTS = {
    "none": {
        *("interactions", "interactions_test_loss"),  # none diverged
        *("effects", "effects_test_loss", "final", "learning_curves", "gradient_norm"),
    },
    "one": {"along_axis", "learning_curves", "gradient_profile"},
    "two": {"heat_map", "heat_map_test_loss"},
}


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    return {
        name: write_factorial(
            tmp_path_factory.mktemp(name),
            *crossed,
            diverged={("d56-none", 1), ("d56-none", 2)},
            panels=[
                {"metric": "test/accuracy", "direction": "max"},
                {"metric": "test/loss", "direction": "min"},
                {"metric": "diverged", "direction": "min"},
            ],
        )
        for name, crossed in CROSSED.items()
    }


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("axes", CROSSED)
def test_each_design_has_its_plots_and_their_data(workdirs, axes):
    made = report(workdirs[axes])
    assert {path.stem for path in made.glob("*.png")} == PLOTS[axes]
    page = (made / "index.html").read_text()
    for name in PLOTS[axes]:
        assert len(rows_of(made / f"{name}.csv")) > 3
        assert f'<a download="{name}.csv" href="data:text/csv;base64,' in page
        assert f"[data]({name}.csv)" in (made / "report.md").read_text()


def test_along_the_axis_an_arm_is_compared_with_the_baseline_at_its_place(workdirs):
    summary = summarise(read_experiment(workdirs["one"]))
    accuracy = summary["panels"][0]["arms"]
    entry, other = accuracy["d32-identity"], accuracy["d32-none"]
    assert entry["reference"] == "d32-none" and other["difference"] is None
    seeds = np.array([list(e["seeds"].values()) for e in (entry, other)])
    assert entry["difference"]["mean"] == pytest.approx(np.mean(seeds[0] - seeds[1]))
    rows = table(summary)
    assert list(rows[0])[:3] == ["depth", "skip", "n"] and "Δ none (pp)" in rows[0]
    assert (rows[0]["depth"], rows[0]["skip"], rows[0]["Δ none (pp)"]) == ("8", "none", "–")
    curve = rows_of(report(workdirs["one"]) / "along_axis.csv")
    found = next(r for r in curve if r[SKIP] == "identity" and r[DEPTH] == "32")
    assert float(found["mean"]) == pytest.approx(entry["mean"])


def test_the_share_of_diverged_runs_has_intervals_of_shares(workdirs):
    summary = summarise(read_experiment(workdirs["one"]))
    shares = summary["panels"][2]["arms"]
    assert shares["d56-none"]["mean"] == pytest.approx(2 / 3)
    assert shares["d56-none"]["ci95"] == pytest.approx([0.2077, 0.9385], abs=1e-4)  # Wilson
    assert shares["d56-identity"]["mean"] == 0
    difference = shares["d56-identity"]["difference"]
    assert difference["mean"] == pytest.approx(-2 / 3)
    assert difference["ci95"][0] < -2 / 3 < difference["ci95"][1]
    columns = [row["Δ none (pp)"] for row in table(summary)]
    assert columns.count("–") == len(DEPTHS)
    assert summary["panels"][2]["effects"] is None


def test_effects_stand_in_the_summary_the_page_and_the_publication(workdirs, tmp_path):
    summary = json.loads((report(workdirs["none"]) / "summary.json").read_text())
    rows = effects_table(summary["panels"][0], summary)
    assert [row["effect"] for row in rows] == [
        "norm batch", "skip identity", "norm batch × skip identity",
    ]  # fmt: skip
    arms = summary["panels"][0]["arms"]
    means = {arm: entry["mean"] for arm, entry in arms.items()}
    interaction = (means["batch-identity"] - means["none-identity"]) - (
        means["batch-none"] - means["none-none"]
    )
    assert summary["panels"][0]["effects"][2]["mean"] == pytest.approx(interaction)
    assert rows[2]["averaged (pp)"].startswith(f"{100 * interaction:+.1f}"[:3].replace("-", "−"))
    assert "norm batch × skip identity" in (workdirs["none"] / "report/index.html").read_text()
    (tmp_path / "README.md").write_text(
        "<!-- results:laptop begin -->\n<!-- results:laptop end -->\n"
    )
    publish(workdirs["none"], tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "Effects on test accuracy" in text and "| norm batch × skip identity |" in text


def test_a_map_is_published_as_a_table_for_each_group(workdirs, tmp_path):
    summary = summarise(read_experiment(workdirs["two"]))
    maps = map_tables(summary)
    assert list(maps) == ["skip: none", "skip: identity"]
    first = maps["skip: identity"][1]
    assert next(iter(first.values())) == "20" and list(first)[1:] == ["0.01", "0.1", "1"]
    entry = summary["panels"][0]["arms"]["identity-d20-lr1.0"]
    assert first["1"].startswith(f"{100 * entry['mean']:.1f}")
    (tmp_path / "README.md").write_text(
        "<!-- results:laptop begin -->\n<!-- results:laptop end -->\n"
    )
    publish(workdirs["two"], tmp_path)
    assert "test accuracy (%); skip: identity" in (tmp_path / "README.md").read_text()
    heat = rows_of(workdirs["two"] / "report/heat_map.csv")
    assert len(heat) == 12


def test_a_design_of_axes_alone_is_compared_with_the_baseline_itself(tmp_path):
    arms = cross(levels(DEPTH, 8, 20, prefix="d"), levels(RATE, 0.1, 1.0, prefix="lr"))
    workdir = write_factorial(tmp_path / "w", arms, (DEPTH, RATE), "d8-lr0.1", steps=10)
    rows = table(workdir)
    assert [row["Δ d8-lr0.1 (pp)"] == "–" for row in rows] == [True, False, False, False]
    page = (report(workdir) / "report.md").read_text()
    assert "Δ d8-lr0.1 is the difference from it; p is of the t test" in page


def test_each_panel_says_what_its_intervals_and_tests_are(workdirs):
    page = (report(workdirs["one"]) / "report.md").read_text()
    accuracy, diverged = page.index("## Test accuracy"), page.index("## Diverged runs")
    assert "the t test of differences paired by seed" in page[accuracy:diverged]
    assert "from it at the same depth" in page[accuracy:diverged]
    assert "Wilson's, and Newcombe's" in page[diverged:] and "Fisher's exact" in page[diverged:]
    assert "Fisher" not in page[:diverged]


def test_effects_that_could_not_be_had_are_told(tmp_path):
    lost = {("batch-none", seed) for seed in range(3)}
    workdir = write_factorial(tmp_path / "w", *CROSSED["none"], diverged=lost, steps=10)
    page = (report(workdir) / "report.md").read_text()
    assert "test loss: no effects of the factors, for fewer than two values in batch-none." in page
    assert "Effects" not in page and "norm batch × skip identity" in page  # of the accuracy


def test_levels_that_are_words_can_be_tuned(tmp_path):
    workdir = write_factorial(tmp_path / "w", *CROSSED["none"], steps=10)
    field = "optimizer.schedule.name"
    grid = [{field: name} for name in ("constant", "cosine", "step")]
    experiment = json.loads((workdir / "experiment.json").read_text())
    experiment["tune"]["grid"] = grid
    (workdir / "experiment.json").write_text(json.dumps(experiment))
    for path in workdir.glob("*/tune.json"):
        points = [{"point": p, "status": "finished", "metrics": {}, "code": ["old"]} for p in grid]
        path.write_text(json.dumps({"grid": points, "chosen": grid[0]}))
    report(workdir)
    assert table(workdir)[0]["schedule"] == "constant"
    assert (
        "none-none: tuned by other code than it ran by: old."
        in (workdir / "report/report.md").read_text()
    )


def test_a_tuning_of_another_version_is_told_by_its_file(tmp_path):
    workdir = write_factorial(tmp_path / "w", *CROSSED["none"], steps=10)
    old = {"field": RATE, "grid": [{"value": 0.1, "metrics": {}}], "chosen": 0.1}
    (workdir / "none-none" / "tune.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"none-none/tune\.json: expected a grid of points"):
        report(workdir)


def test_runs_of_other_code_are_told_apart(workdirs):
    workdir = workdirs["none"]
    for i, path in enumerate(sorted(workdir.glob("*/seed_*/result.json"))):
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"code": {"sha256": "aaaa" if i else "bbbb"}}))
    report(workdir)
    page = (workdir / "report/report.md").read_text()
    assert "These runs differ in code: sha256 aaaa (11 runs); sha256 bbbb (1 runs)." in page


def test_clipping_is_drawn_where_some_run_was_clipped(workdirs):
    workdir = workdirs["one"]
    assert not (workdir / "report/clipping.png").exists()
    for path in workdir.glob("d8-*/seed_*/metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for step, row in enumerate(rows):
            row |= {"gradient_norm": 2.0**step, "clipped_fraction": float(step > 3)}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = json.loads((path.parent / "result.json").read_text())
        share = (len(rows) - 4) / len(rows)
        result["metrics"]["clipped_fraction"] = share
        (path.parent / "result.json").write_text(json.dumps(result))
    made = report(workdir)
    found = {row["arm"]: row for row in rows_of(made / "clipping.csv")}
    steps = len(rows)
    assert float(found["d8-none"]["clipped_fraction"]) == pytest.approx(share)
    assert float(found["d8-none"]["q50"]) == 2.0 ** ((steps - 1) / 2)
    assert found["d20-none"]["q50"] == ""


@pytest.mark.parametrize(
    ("depths", "clips"),
    [
        ((8,), ("none",)),
        ((8, 20), ("none", "value", "global_norm", "adaptive")),
        (DEPTHS, ("none",)),
    ],
)
def test_every_shape_of_design_is_drawn_without_a_warning(tmp_path, depths, clips):
    kind = "optimizer.clip.kind"
    arms = cross(levels(DEPTH, *depths, prefix="d"), levels(kind, *clips))
    report(write_factorial(tmp_path / "one", arms, (DEPTH, kind), next(iter(arms)), steps=10))
    arms = cross(arms, levels(RATE, *(0.1 * 2**i for i in range(len(depths))), prefix="lr"))
    fields = (DEPTH, kind, RATE)
    report(write_factorial(tmp_path / "two", arms, fields, next(iter(arms)), steps=10))
    arms = cross(levels(SKIP, "none", "identity"), levels(kind, *clips))
    report(write_factorial(tmp_path / "none", arms, (SKIP, kind), next(iter(arms)), steps=10))
    arms = cross(levels(DEPTH, *depths, prefix="d"))
    report(write_factorial(tmp_path / "axis", arms, (DEPTH,), next(iter(arms)), steps=10))


KINDS = [*(f"kind{i}" for i in range(8)), "none"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Nine levels, early and late, of two sets of data; one of each that is had otherwise too."""
    data = {"rows": {"data": "rows", "how": "after"}, "maps": {"data": "maps", "how": "after"}}
    arms = {
        f"{name}-{kind}-{when}": {"kind": kind, "when": when} | base
        for name, base in data.items()
        for kind in KINDS
        for when in ("early", "late")
    }
    arms |= {f"{name}-other": arms[f"{name}-kind1-early"] | {"how": "mse"} for name in data}
    workdir = write_factorial(
        tmp_path_factory.mktemp("wide"),
        *(arms, ("kind", "when", "how", "data"), "rows-kind0-early"),
        within=("data",),
        seeds=range(2),
        steps=5,
        tune=False,
    )
    experiment = read_experiment(workdir)
    return experiment, summarise(experiment)


def test_interactions_of_many_levels_fit_their_panels(wide):
    experiment, summary = wide
    with matplotlib.rc_context(STYLE):
        figure, rows = interactions(experiment, summary, summary["panels"][0])
        assert png(figure)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["how: after\ndata: rows", "how: after\ndata: maps"]
    (legend,) = figure.legends
    frame = legend.get_window_extent(figure.canvas.get_renderer())
    assert frame.x0 >= 0 and frame.x1 <= figure.bbox.x1
    assert {text.get_text() for text in legend.get_texts()} >= {*KINDS}
    for axis in figure.axes:
        places = [x for line in axis.lines for x in line.get_xdata()]
        low, high = axis.get_xlim()
        assert low + 0.1 < min(places) and max(places) < high - 0.1
    assert {row["how"] for row in rows} == {"after"} and len(rows) == 2 * 2 * 2 * len(KINDS)


def test_a_design_whose_panels_have_one_arm_each_has_no_lines(tmp_path):
    arms = {f"a{i}": {"kind": f"k{i}", "when": f"w{i}", "data": f"d{i}"} for i in range(3)}
    fields = "kind", "when", "data"
    workdir = write_factorial(tmp_path, arms, fields, "a0", seeds=range(2), steps=5, tune=False)
    experiment = read_experiment(workdir)
    summary = summarise(experiment)
    assert interactions(experiment, summary, summary["panels"][0]) is None
    assert any("no effects of the factors, for missing arms" in line for line in notes(summary))


def test_each_group_has_its_own_baseline(wide):
    experiment, summary = wide
    with matplotlib.rc_context(STYLE):
        figure, _ = final_metrics(experiment, summary)
    panel, axis = summary["panels"][0], figure.axes[0]
    found = [line.get_xydata().tolist() for line in axis.lines if line.get_linestyle() == ":"]
    rows, maps = (100 * panel["arms"][f"{x}-kind0-early"]["mean"] for x in ("rows", "maps"))
    half = 2 * len(KINDS)  # the arms of each; the two others are the last
    ends = [-0.5, half - 0.5, 2 * half - 0.5, 2 * half + 0.5, 2 * half + 1.5]
    assert found == [
        [[mean, low], [mean, high]]
        for mean, (low, high) in zip((rows, maps) * 2, pairwise(ends), strict=True)
    ]
