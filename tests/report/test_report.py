"""Reports, tables and publication of whole workdirs."""

import base64
import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from synthetic_workdir import ARMS, LAYERS, write_workdir

from research.config import UserError
from research.report import print_table, publish, report, table
from research.report.plots.gradient_norms import _merge_orders
from research.report.plots.learning_curves import _log_scale
from research.report.runs import read_experiment
from research.report.summary import summarise
from research.report.tables import utilization_table

README = "# Norms\n\n<!-- results:laptop begin -->\nold\n<!-- results:laptop end -->\n\nVerdict.\n"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp("norms"))


@pytest.fixture(scope="module")
def directory(workdir):
    return report(workdir)


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def rows_of(workdir, arm, seed):
    lines = (workdir / arm / f"seed_{seed}" / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row for row in map(json.loads, lines)}


def test_everything_is_there_and_nothing_else(workdir, directory):
    assert directory == workdir / "report"
    plots = {
        f"{p}.{e}" for p in ("final", "learning_curves", "gradient_norm") for e in ("png", "csv")
    }
    assert {p.name for p in directory.iterdir()} == plots | {
        "summary.json",
        "report.md",
        "index.html",
    }


def test_the_page_needs_no_other_file(directory):
    page = (directory / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    files = [directory / f"{name}.png" for name in ("final", "learning_curves", "gradient_norm")]
    assert [base64.b64decode(image) for image in images] == [file.read_bytes() for file in files]
    assert "skips &amp; clipped gradients?" in page
    assert "python launch.py --experiment=normalization --seeds=5" in page
    assert "3f2a9c1d7e" in page
    assert "no result yet of seed 4" in page


def test_pictures_are_legible_and_small(directory):
    for path in directory.glob("*.png"):
        image = Image.open(path)
        assert image.width == 1120  # 7 inches at 160 dots
        assert path.stat().st_size < 150_000
        assert len(np.unique(np.asarray(image.convert("L")))) > 20  # something is drawn


def test_curves_hold_the_mean_of_the_runs_that_did_not_diverge(workdir, directory):
    rows = read_csv(directory / "learning_curves.csv")
    for arm, seeds in (
        ("batch", range(5)),
        ("local_response", (0, 1, 2, 4)),
        ("instance", range(4)),
    ):
        values = [rows_of(workdir, arm, seed)[100]["train/loss"] for seed in seeds]
        (row,) = (
            r for r in rows if (r["metric"], r["arm"], r["step"]) == ("train/loss", arm, "100")
        )
        assert int(row["n"]) == len(values)
        assert float(row["mean"]) == pytest.approx(np.mean(values))
        assert float(row["min"]) == pytest.approx(min(values))
        assert float(row["max"]) == pytest.approx(max(values))


def test_heat_map_holds_the_geometric_mean_over_seeds(workdir, directory):
    rows = read_csv(directory / "gradient_norm.csv")
    name = f"diagnostics/gradient_norm/{LAYERS[2]}"
    values = [rows_of(workdir, "group", seed)[50][name] for seed in range(5)]
    (row,) = (r for r in rows if (r["arm"], r["layer"], r["step"]) == ("group", LAYERS[2], "50"))
    assert float(row["gradient_norm"]) == pytest.approx(np.prod(values) ** 0.2)


def test_every_seed_is_in_the_final_plots_data(directory):
    rows = [r for r in read_csv(directory / "final.csv") if r["metric"] == "test/accuracy"]
    assert len(rows) == 29  # 6 × 5, one of which has not ended
    assert [r["value"] for r in rows if r["status"] == "diverged"] == ["0.1"]


def test_layers_that_an_arm_lacks_stay_in_order_of_depth():
    assert _merge_orders([["a", "b", "c"], ["a", "norm", "b", "b2", "c", "d"]]) == [
        *("a", "norm", "b", "b2", "c", "d")
    ]
    assert _merge_orders([["a", "x", "c"], ["a", "y", "c"]]) in (
        ["a", "x", "y", "c"],
        ["a", "y", "x", "c"],
    )


@pytest.mark.parametrize(
    "case",
    [
        {"arms": ["batch"], "seeds": [0], "tune": False},
        {"arms": ["none", "layer"], "seeds": range(2), "tune": False},
        {"arms": ["batch"], "seeds": range(2), "diverged": [("batch", 0), ("batch", 1)]},
        {"arms": ["batch", "none"], "seeds": range(2), "layers": []},
        {"arms": ["batch", "none"], "seeds": range(2), "steps": 0},
    ],
    ids=["one run", "no baseline", "all diverged", "no diagnostics", "one step"],
)
def test_small_workdirs_are_reported_without_a_warning(tmp_path, case):
    page = (report(write_workdir(tmp_path, **case)) / "index.html").read_text()
    assert "single seed" in page or len(case["seeds"]) > 1


def test_many_arms_and_a_row_cut_short(tmp_path):
    arms = [f"{arm}_{k}" for k in ("sgd", "adamw") for arm in ARMS]
    write_workdir(tmp_path, arms=arms, baseline="batch_sgd", seeds=range(2), steps=50, layers=[])
    with (tmp_path / "batch_sgd" / "seed_0" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 51, "train/lo')
    assert len(table(tmp_path)) == 12
    assert (report(tmp_path) / "learning_curves.png").exists()


def test_a_report_again_is_the_same(workdir, directory):
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    report(workdir)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_table_shows_percent_intervals_and_counts(workdir, directory):
    summary = json.loads((directory / "summary.json").read_text())
    rows = {row["arm"]: row for row in table(workdir)}
    assert rows == {row["arm"]: row for row in table(summary)}
    entry = summary["panels"][0]["arms"]["group"]
    mean, half = map(float, rows["group"]["test accuracy (%)"].split(" ± "))
    assert mean == pytest.approx(100 * entry["mean"], abs=0.005)
    assert half == pytest.approx(50 * (entry["ci95"][1] - entry["ci95"][0]), abs=0.005)
    difference = rows["group"]["Δ batch (pp)"].replace("−", "-")
    assert float(difference.split()[0]) == pytest.approx(
        100 * entry["difference"]["mean"], abs=0.005
    )
    assert rows["instance"]["n"] == "4/5"
    assert rows["local_response"]["n"] == "5 (1 diverged)"
    assert rows["local_response"]["steps to 95 % accuracy"].endswith("(4/5)")
    assert rows["batch"]["learning rate"] == "0.1"


def test_use_of_the_devices_is_a_table_of_medians_without_what_none_has(workdir, directory):
    rows = utilization_table(summarise(read_experiment(workdir)))
    assert [row["time a step (ms)"] for row in rows] == [f"{2 + i:.2f}" for i in range(len(rows))]
    assert {row["input wait (%)"] for row in rows} == {"25.0"}
    assert not any("communication" in column for column in rows[0])
    assert "Use of the devices" in (directory / "index.html").read_text()


def test_a_single_seed_says_so_in_the_table(tmp_path):
    rows = table(write_workdir(tmp_path, arms=["batch", "none"], seeds=[0], tune=False))
    assert rows[0]["test accuracy (%)"].endswith("(1 seed)")
    assert rows[1]["Δ batch (pp)"].endswith("(1 seed)")
    assert "learning rate" not in rows[0]


def test_printed_table_is_plain_where_there_is_no_terminal(workdir, capsys):
    print_table(workdir)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    for row in table(workdir):
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [row["arm"]])
        assert all(cell in line for cell in row.values())
    assert "no result yet of seed 4" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_loses_no_cell(workdir, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(workdir)
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, text.splitlines())) <= width
    for row in table(workdir):
        lines = [line for line in text.splitlines() if line.split()[:1] == [row["arm"]]]
        assert all(any(cell in line for line in lines) for cell in row.values())


def test_publish_writes_results_and_the_table_between_the_markers(workdir, directory, tmp_path):
    shown = "![Curves](results/laptop/learning_curves.png) ![Final](results/laptop/final.png)\n"
    (tmp_path / "README.md").write_text(README + shown)
    written = publish(workdir, tmp_path)
    results = tmp_path / "results" / "laptop"
    names = {"summary.json", "final.png", "learning_curves.png"}  # no plot that the page lacks
    assert {p.name for p in results.iterdir()} == names
    assert set(written) == {results / name for name in names} | {tmp_path / "README.md"}
    assert (results / "final.png").read_bytes() == (directory / "final.png").read_bytes()
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("# Norms\n\n<!-- results:laptop begin -->\n")
    assert page.endswith(f"<!-- results:laptop end -->\n\nVerdict.\n{shown}")
    assert "old" not in page
    for row in table(workdir):
        assert f"| {' | '.join(row.values())} |" in page
    assert "python launch.py --experiment=normalization" in page
    publish(workdir, tmp_path)
    assert (tmp_path / "README.md").read_text() == page


@pytest.mark.parametrize(
    "text",
    [None, "# Norms\n", "<!-- results:laptop end --><!-- results:laptop begin -->", README * 2],
)
def test_publish_without_its_place_says_what_to_add_and_writes_nothing(workdir, tmp_path, text):
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    with pytest.raises(UserError, match="<!-- results:laptop begin -->"):
        publish(workdir, tmp_path)
    assert not (tmp_path / "results").exists()


def test_publish_of_a_page_with_a_plot_that_is_not_there_names_it(workdir, tmp_path):
    (tmp_path / "README.md").write_text(README + "![Final](results/laptop/finale.png)\n")
    with pytest.raises(UserError, match=r"found 'finale.png'.*did you mean 'final.png'"):
        publish(workdir, tmp_path)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("low", "high"), [(1.6, 2.7), (0.01, 0.2), (1e-6, 3.0)])
def test_ticks_of_a_loss_say_where_they_stand(low, high):
    figure = Figure()
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot([low, high])
    _log_scale(axis)
    figure.canvas.draw()
    ticks = [t for t in axis.get_yticks() if low / 2 < t < 2 * high]
    labels = axis.yaxis.get_major_formatter().format_ticks(ticks)
    np.testing.assert_allclose([float(text) for text in labels], ticks, rtol=1e-5)


def test_importing_the_report_does_not_import_matplotlib():
    code = "import sys, research.report; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
