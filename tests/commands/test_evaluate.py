import csv
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import classification_report

from research.commands.evaluate import by_class, evaluate_checkpoint
from research.tasks.evaluation import summarize
from research.tasks.heads import HEADS


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "regression"])
def test_a_checkpoint_gives_the_numbers_of_its_run(finished, head, capsys):
    directory, result = finished(head)
    found = evaluate_checkpoint(str(directory), None, {})
    recorded = {k: v for k, v in result["metrics"].items() if k.startswith("test/")}
    assert recorded == {f"test/{k}": pytest.approx(v, rel=1e-5) for k, v in found.metrics.items()}
    written = json.loads((directory / "evaluation" / "metrics.json").read_text())
    assert written["metrics"] == found.metrics
    printed = capsys.readouterr().out
    assert f"{found.metrics['accuracy']:.4g}" in printed and "360 examples" in printed
    if head == "regression":
        assert "MSE" in printed
        assert [p.name for p in (directory / "evaluation").iterdir()] == ["metrics.json"]
        return
    for word in ("calibration error", "specificity", "macro", "weighted"):
        assert word in printed
    for name in ("confusion_matrix.png", "roc.png"):
        image = np.asarray(Image.open(directory / "evaluation" / name).convert("L"))
        assert image.std() > 10
    with (directory / "evaluation" / "confusion_matrix.csv").open() as file:
        rows = [[*row.values()][1:] for row in csv.DictReader(file)]
    np.testing.assert_array_equal(np.array(rows, int), found.confusion)


def test_double_precision(train_run, tmp_path):
    result = train_run("double", {"train.precision": "float64"})
    found = evaluate_checkpoint(str(tmp_path / "double"), None, {})
    for name, value in found.metrics.items():
        assert result["metrics"][f"test/{name}"] == pytest.approx(value, rel=1e-12), name


def test_by_class_is_the_report_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 200, p=[0.7, 0.2, 0.1, 0])
    outputs = rng.normal(size=(200, 4)) + 2 * np.eye(4)[labels]
    found = summarize(HEADS["softmax"], outputs, labels, 4, {})
    names = ("cat", "dog", "owl", "newt")
    rows = {row["class"]: row for row in by_class(found, names)}
    assert [*rows] == [*names, "macro", "micro", "weighted"]
    report = classification_report(
        labels,
        outputs.argmax(1),
        labels=range(4),
        target_names=names,
        output_dict=True,
        zero_division=0,
    )
    for name, expected in report.items():
        row = rows.get(name.removesuffix(" avg"))
        if row:  # scikit-learn calls the micro mean "accuracy"
            assert row["examples"] == expected["support"]
            for ours, theirs in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score")):
                assert row[ours] == pytest.approx(expected[theirs])
    assert rows["micro"]["f1"] == pytest.approx(report["accuracy"])
    assert np.isnan(rows["newt"]["AUC"]) and 0.5 < rows["macro"]["AUC"] < 1
