import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, roc_auc_score, top_k_accuracy_score

from research.commands.train import Datasets, run_all
from research.data.images import Images
from research.files import read_rows
from research.train import loop, record
from research.train.checkpoint import Checkpoints, abstract
from research.train.history import final_metrics
from research.train.optimizer import hyperparams
from research.train.program import get_program


class Interrupted(Exception):
    """A run is cut off here."""


def cut_off_at(last):
    def watch(step, steps, row):
        if step == last:
            raise Interrupted

    return watch


def rows_of(directory):
    return read_rows(directory / "metrics.jsonl")


def truncate(folder):
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


class Untouchable:
    """A source that must not be read."""

    def __len__(self):
        return 360

    def where(self, index):
        return str(index)

    def read(self, index):
        raise AssertionError("test data was read")


def without_test(dataset):
    hidden = Images(
        "digits", Untouchable(), np.arange(360), dataset.image_shape, dataset.num_classes
    )
    return dataclasses.replace(dataset, test=hidden)


@pytest.fixture
def finished(train_run, tmp_path):
    """The result of an unbroken run."""
    return train_run("finished"), rows_of(tmp_path / "finished")


def same_numbers(rows, others):
    def numbers(row):
        timed = ("wall_seconds", "utilization/")
        return {k: v for k, v in row.items() if not k.startswith(timed)}

    return [*map(numbers, rows)] == [*map(numbers, others)]


def test_result_has_the_documented_fields(finished, tmp_path):
    result, _ = finished
    text = (tmp_path / "finished" / "result.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == result
    assert set(result) == {
        *("experiment", "scale", "arm", "seed", "status", "steps", "resumed_from", "metrics"),
        *(
            "params_digest",
            "utilization",
            "wall_seconds",
            "compile_seconds",
            "parameters",
            "macs",
            "layout",
            "config",
        ),
        *("code", "versions", "git", "hardware"),
    }
    assert result["experiment"] == "tiny" and result["scale"] == "laptop"
    assert (result["arm"], result["seed"], result["steps"]) == ("base", 0, 6)
    assert result["status"] == "finished" and result["resumed_from"] == []
    assert set(result["metrics"]) == {
        *(f"{s}/{m}" for s in ("train", "validation", "test") for m in ("loss", "accuracy")),
        *(f"test/{m}" for m in ("top5", "precision", "recall", "f1", "balanced_accuracy")),
        *("test/mcc", "test/auc", "test/ece", "best_step", "steps_to_accuracy", "steps_to_loss"),
        "clipped_fraction",
    }
    assert result["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert result["macs"] == 64 * 16 + 16 * 10
    assert set(result["git"]) == {"commit", "dirty"} and result["hardware"]["platform"] == "cpu"
    assert result["config"] == json.loads((tmp_path / "finished" / "config.json").read_text())
    assert len(result["params_digest"]) == 64


def test_a_seed_decides_every_bit(finished, train_run, tmp_path):
    result, rows = finished
    again, other = train_run("again"), train_run("other", seed=1)
    assert again["params_digest"] == result["params_digest"] != other["params_digest"]
    assert same_numbers(rows_of(tmp_path / "again"), rows)


def test_a_seed_trained_among_others_has_the_same_bits(finished, make_run):
    """Side by side, on two devices."""
    runs = [make_run(f"among/{seed}", seed=seed) for seed in (1, 0)]
    run_all("test", runs, Datasets(None))
    results = {run.seed: run.result() for run in runs}
    assert results[0]["params_digest"] == finished[0]["params_digest"]
    assert results[0]["metrics"] == finished[0]["metrics"]
    assert len({r["params_digest"] for r in results.values()}) == 2


@pytest.mark.parametrize("feed", ["streaming", "resident"])
def test_feeds_give_the_same_bits(finished, train_run, feed):
    result = train_run(feed, {"data.feed": feed})
    assert result["params_digest"] == finished[0]["params_digest"]
    assert result["metrics"] == finished[0]["metrics"]


def test_an_interrupted_run_ends_like_an_unbroken_one(finished, train_run, tmp_path):
    for step in (3, 5):  # just after the checkpoints of 2 and 4
        with pytest.raises(Interrupted):
            train_run("cut", watch=cut_off_at(step))
    assert not (tmp_path / "cut" / "result.json").exists()
    result = train_run("cut")
    assert result["resumed_from"] == [2, 4]
    assert result["params_digest"] == finished[0]["params_digest"]
    assert result["metrics"] == finished[0]["metrics"]
    assert same_numbers(rows_of(tmp_path / "cut"), finished[1])


def test_a_run_cut_off_before_its_first_checkpoint_starts_again(finished, train_run):
    with pytest.raises(Interrupted):
        train_run("cut", watch=cut_off_at(1))
    result = train_run("cut")
    assert result["resumed_from"] == []
    assert result["params_digest"] == finished[0]["params_digest"]


def test_a_run_cut_off_before_its_result_trains_no_further(finished, train_run, tmp_path):
    train_run("cut")
    (tmp_path / "cut" / "result.json").unlink()
    result = train_run("cut", watch=lambda *_: pytest.fail("it trained"))
    assert result["resumed_from"] == [6]
    assert result["params_digest"] == finished[0]["params_digest"]
    assert result["metrics"] == finished[0]["metrics"]


def test_a_truncated_checkpoint_costs_steps_and_no_bits(finished, train_run, tmp_path):
    with pytest.raises(Interrupted):
        train_run("cut", watch=cut_off_at(5))
    truncate(tmp_path / "cut" / "checkpoints" / "4")
    said = []
    result = train_run("cut", say=said.append)
    assert len(said) == 1 and "checkpoints/4" in said[0]
    assert result["resumed_from"] == [2]
    assert result["params_digest"] == finished[0]["params_digest"]
    assert same_numbers(rows_of(tmp_path / "cut"), finished[1])


@pytest.mark.parametrize("part", ["state", "metrics"])
def test_a_damaged_best_checkpoint_is_trained_again(train_run, tmp_path, part):
    """Its weights are the ones to test, so falling back to another would change the result."""
    changes = {"optimizer.learning_rate": 2.0, "train.steps": 12, "train.keep": 1}
    unbroken = train_run("wild", changes)
    best = unbroken["metrics"]["best_step"]
    assert best < 12
    (tmp_path / "wild" / "result.json").unlink()
    truncate(tmp_path / "wild" / "checkpoints" / str(best) / part)
    said = []
    result = train_run("wild", changes, say=said.append)
    assert any(f"checkpoints/{best}" in sentence for sentence in said)
    assert result["params_digest"] == unbroken["params_digest"]
    assert result["metrics"] == unbroken["metrics"]


def test_checkpoints_can_be_rarer_than_evaluations(train_run, tmp_path):
    """The best is then the best of those that were kept; the last is always kept."""
    changes = {"train.steps": 10, "train.eval_every": 2, "train.checkpoint_every": 4}
    result = train_run("rare", changes | {"train.keep": 9})
    steps = sorted(int(f.name) for f in (tmp_path / "rare" / "checkpoints").iterdir())
    assert steps == [4, 8, 10]
    rows = {r["step"]: r for r in rows_of(tmp_path / "rare") if "validation/accuracy" in r}
    assert sorted(rows) == [2, 4, 6, 8, 10]
    best = max(steps, key=lambda s: (rows[s]["validation/accuracy"], -rows[s]["validation/loss"]))
    assert result["metrics"]["best_step"] == best


def test_rows_are_ordered_and_end_with_the_last_step(train_run, tmp_path):
    train_run("long", {"train.steps": 7, "train.log_every": 2, "train.eval_every": 5})
    rows = rows_of(tmp_path / "long")
    assert [row["step"] for row in rows] == [2, 4, 5, 6, 7]
    assert [row["step"] for row in rows if "validation/accuracy" in row] == [5, 7]
    for row in rows:
        assert {"train/loss", "train/accuracy", "learning_rate", "gradient_norm"} <= set(row)


def test_rows_are_means_since_the_row_before(finished, train_run, tmp_path):
    train_run("coarse", {"train.log_every": 4, "train.eval_every": 6})
    coarse = {row["step"]: row for row in rows_of(tmp_path / "coarse")}
    fine = {row["step"]: row for row in finished[1]}
    for name in ("train/loss", "train/accuracy", "gradient_norm"):
        for end, window in ((4, (1, 2, 3, 4)), (6, (5, 6))):
            mean = np.mean([fine[step][name] for step in window])
            np.testing.assert_allclose(coarse[end][name], mean, rtol=1e-6)


def test_diagnostics_stand_at_their_own_steps(train_run, tmp_path):
    train_run("d", {"train.diagnostics_every": 3, "train.log_every": 4, "train.eval_every": 6})
    rows = {row["step"]: row for row in rows_of(tmp_path / "d")}
    assert list(rows) == [1, 3, 4, 6]
    diagnosed = [
        step for step, row in rows.items() if any(k.startswith("diagnostics/") for k in row)
    ]
    assert diagnosed == [1, 3, 6]
    assert "train/loss" not in rows[3] and "train/loss" in rows[6]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_that_diverges_is_a_result(train_run, tmp_path, optimizer):
    changes = {"optimizer.name": optimizer, "optimizer.learning_rate": 1e30}
    result = train_run("hot", changes)
    assert result["status"] == "diverged" and result["steps"] < 6
    for name in ("result.json", "metrics.jsonl"):
        for text in (tmp_path / "hot" / name).read_text().split("\n{"):
            assert "NaN" not in text and "Infinity" not in text
    assert result["metrics"]["train/loss"] is None
    assert "test/accuracy" not in result["metrics"]


def test_a_last_update_that_diverges_is_no_success(train_run):
    """The loss of the last step is finite, and what it leaves behind is not."""
    result = train_run("hot", {"optimizer.learning_rate": 1e38, "train.steps": 1})
    assert result["status"] == "diverged"


def test_a_gradient_that_is_not_finite_is_divergence_whatever_the_loss(train_run, monkeypatch):
    """On XLA:CPU max(NaN, 0) is 0: a ReLU network of NaN weights still has a finite loss."""

    def poisoned(*arguments):
        program = get_program(*arguments)

        def step(state, batch):
            state, metrics = program.step(state, batch)
            metrics["updates"]["gradient_norm_clipped"] *= jax.numpy.nan
            return state, metrics

        return dataclasses.replace(program, step=step)

    monkeypatch.setattr(loop, "get_program", poisoned)
    result = train_run("poisoned")
    assert result["status"] == "diverged" and result["steps"] == 1
    assert result["metrics"]["train/loss"] is not None


def test_final_training_metrics_are_means_since_the_evaluation_before(train_run, tmp_path):
    changes = {"optimizer.clip.kind": "global_norm", "optimizer.clip.threshold": 2.5}
    metrics = train_run("means", changes)["metrics"]  # evaluates every 2 steps, logs every step
    rows = rows_of(tmp_path / "means")
    for name in ("train/loss", "train/accuracy"):
        assert metrics[name] == pytest.approx(np.mean([row[name] for row in rows[-2:]]))
    clipped = [row["clipped_fraction"] for row in rows]
    assert metrics["clipped_fraction"] == pytest.approx(np.mean(clipped))
    assert 0 < sum(clipped) < len(clipped), [row["gradient_norm"] for row in rows]


def test_a_row_counts_as_the_steps_that_it_stands_for(tiny):
    config = tiny({"train.eval_every": 10})
    rows = [
        {"step": step, "train/loss": loss, "clipped_fraction": clipped}
        for step, loss, clipped in ((10, 4.0, 1.0), (20, 3.0, 0.5), (25, 2.0, 0.0), (30, 1.0, 0.0))
    ]
    for row in rows:
        row |= {"validation/accuracy": 0.5, "validation/loss": 1.0}
    metrics = final_metrics([{"step": 7, "diagnostics/x": 1.0}, *rows], config)
    assert metrics["train/loss"] == pytest.approx(1.5)
    assert metrics["clipped_fraction"] == pytest.approx((10 * 1.0 + 10 * 0.5) / 30)


def test_a_run_resumed_by_other_code_says_so(train_run, tmp_path, monkeypatch):
    with pytest.raises(Interrupted):
        train_run("moved", watch=cut_off_at(5))
    ours = record.code_digest()
    monkeypatch.setattr(record, "code_digest", lambda: "another")
    result = train_run("moved")
    assert result["resumed_from"] and result["code"] == {"sha256": f"{ours} then another"}


def test_early_stopping_keeps_the_best(train_run, tmp_path):
    changes = {
        "train.steps": 40,
        "train.patience": 2,
        "optimizer.learning_rate": 3.0,
        "optimizer.schedule.warmup": 1.0,
    }
    result = train_run("early", changes)
    scores = [
        (row["validation/accuracy"], -(row["validation/loss"] or math.inf), row["step"])
        for row in rows_of(tmp_path / "early")
        if "validation/accuracy" in row
    ]
    assert result["status"] == "stopped_early" and result["steps"] == scores[-1][2] < 40
    best = max(scores)
    assert best == scores[-3]  # and two that were worse
    assert result["metrics"]["best_step"] == best[2]
    assert result["metrics"]["validation/accuracy"] == best[0]


def test_metrics_are_those_of_the_best_checkpoint(train_run, tmp_path, digits, mesh, tiny):
    """Evaluate the saved weights directly, in numpy."""
    changes = {"optimizer.learning_rate": 2.0, "train.steps": 12, "train.keep": 1}
    result = train_run("wild", changes)
    rows = [row for row in rows_of(tmp_path / "wild") if "validation/accuracy" in row]
    best = max(rows, key=lambda row: (row["validation/accuracy"], -row["validation/loss"]))
    assert result["metrics"]["best_step"] == best["step"] < 12
    assert result["metrics"]["validation/loss"] == best["validation/loss"]
    config = tiny(changes)
    state = get_program(config, digits, mesh).init(jax.random.key(0), hyperparams(config.optimizer))
    checkpoints = Checkpoints(tmp_path / "wild" / "checkpoints", 1)
    restored, position = checkpoints.restore(best["step"], abstract(state))
    checkpoints.close()
    pixels = digits.train.arrays()["image"] / 255
    head = next(v for k, v in restored.params.items() if k != "dense1")

    def answers(images):
        x = ((images / 255 - pixels.mean()) / pixels.std()).reshape(len(images), -1)
        first = restored.params["dense1"]
        return np.maximum(x @ first["kernel"] + first["bias"], 0) @ head["kernel"] + head["bias"]

    images, labels = digits.validation.arrays().values()
    right = np.mean(answers(images).argmax(1) == labels)
    assert best["validation/accuracy"] == pytest.approx(right)
    images, labels = digits.test.arrays().values()
    logits = answers(images)
    predicted = logits.argmax(1)
    assert position == {"position": best["step"]}
    assert result["metrics"]["test/accuracy"] == pytest.approx(np.mean(predicted == labels))
    macro = {"average": "macro", "zero_division": 0}
    area = roc_auc_score(labels, softmax(logits, axis=1), multi_class="ovr")
    expected = {
        "top5": top_k_accuracy_score(labels, logits, k=5),
        "f1": f1_score(labels, predicted, **macro),
        "auc": area,
    }
    for name, value in expected.items():
        assert result["metrics"][f"test/{name}"] == pytest.approx(value, abs=1e-5), name


def test_steps_to_accuracy_and_to_loss(train_run, tmp_path):
    targets = {"experiment.target_accuracy": 0.3, "experiment.target_loss": 2.1}
    result = train_run("target", targets | {"train.steps": 12})
    rows = [row for row in rows_of(tmp_path / "target") if "validation/accuracy" in row]
    first = next(row["step"] for row in rows if row["validation/accuracy"] >= 0.3)
    assert result["metrics"]["steps_to_accuracy"] == first
    low = next(row["step"] for row in rows if row["validation/loss"] <= 2.1)
    assert result["metrics"]["steps_to_loss"] == low
    never = train_run("never", {"experiment.target_accuracy": 0.9999, "train.steps": 12})
    assert never["metrics"]["steps_to_accuracy"] is never["metrics"]["steps_to_loss"] is None


def test_tuning_runs_never_see_test(finished, train_run, digits):
    result = train_run("tune", dataset=without_test(digits), test=False)
    assert result["params_digest"] == finished[0]["params_digest"]
    assert not any(name.startswith("test/") for name in result["metrics"])


def test_test_data_is_touched_at_the_end_only(train_run, digits, tmp_path):
    steps = []
    with pytest.raises(Exception, match="test data was read"):
        train_run("run", dataset=without_test(digits), watch=lambda step, *_: steps.append(step))
    assert steps[-1] == 6
    assert not (tmp_path / "run" / "result.json").exists()


def test_epochs_are_counted_in_examples(train_run):
    result = train_run("epochs", {"train.epochs": 0.1})
    assert result["steps"] == round(0.1 * 1257 / 32)


def test_the_scheduled_learning_rate_is_logged(train_run, tmp_path):
    train_run("linear", {"optimizer.schedule.name": "linear"})
    logged = [row["learning_rate"] for row in rows_of(tmp_path / "linear")]
    np.testing.assert_allclose(logged, 0.1 * (1 - np.arange(6) / 6), rtol=1e-6)
