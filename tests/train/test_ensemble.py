"""Ensembles of an arm's seeds, and the average of the weights of the last steps."""

import json

import jax
import numpy as np
import pytest
from scipy.special import softmax

from research.checks import validate
from research.commands.evaluate import evaluate_study
from research.commands.train import run_study
from research.commands.trained import open_trained
from research.config import UserError, override
from research.files import read_json, write_json
from research.tasks.evaluation import Evaluation
from research.train.checkpoint import best_variables
from research.train.ensemble import judge, together
from research.train.evaluation import evaluate_model
from research.train.tasks import make_task

SEEDS = (0, 1, 2, 3, 4)
EXPERIMENT = '''"""Do several know more than one?"""

from research.config import get_config as defaults

scales = ("laptop",)


def get_config(scale):
    config = defaults()
    config.experiment.arms = ("single", "pair")
    config.experiment.baseline = "single"
    config.experiment.panels = ("test/accuracy", "test/loss", "test/ece")
    config.experiment.tune.grid = (0.1,)
    config.model.name, config.model.hidden = "mlp", (8,)
    config.data.batch_size = 32
    config.train.steps, config.train.eval_every, config.train.log_every = 20, 10, 10
    config.train.tensorboard = False
    return config


def arms(scale):
    pair = {"ensemble.of": "arm:single", "ensemble.size": 2}
    return {
        "single": {},
        "pair": pair,
        "pairs": pair | {"ensemble.of": "arm:pair"},
        "lost": pair | {"ensemble.of": "arm:singel"},
    }
'''


def test_disjoint_ensembles_of_an_arms_seeds(trained):
    """Of five seeds two pairs, whose logits, losses and errors are those of the mean probability;
    the summary holds each pair against the mean of its two."""
    runs = {(run.arm, run.seed): run for run in trained.runs()}
    assert [key for key in runs if key[0] == "pair"] == [("pair", 0), ("pair", 2)]
    panels = json.loads((trained.workdir / "report/summary.json").read_text())["panels"]
    panels = {panel["metric"]: panel["arms"] for panel in panels}
    differences = {metric: [] for metric in panels}
    for seed in (0, 2):
        members = [
            open_trained(str(runs["single", s].directory), None, {}) for s in (seed, seed + 1)
        ]
        split = members[0].dataset.test
        labels = split.labels()
        said = [evaluate_model(m.task, m.variables, split, mesh=m.mesh) for m in members]
        p = np.mean([softmax(np.float64(each.outputs), -1) for each in said], axis=0)
        found = runs["pair", seed].result()
        metrics = found["metrics"]
        right = p.argmax(-1) == labels
        assert metrics["test/accuracy"] == pytest.approx(right.mean())
        nll = -np.log(p[np.arange(len(p)), labels]).mean()
        assert metrics["test/loss"] == pytest.approx(nll, rel=1e-4)
        bins = np.minimum((p.max(-1) * 15).astype(int), 14)
        gaps = [abs(right[bins == b].sum() - p.max(-1)[bins == b].sum()) for b in range(15)]
        assert metrics["test/ece"] == pytest.approx(sum(gaps) / len(p), abs=1e-4)
        singles = [runs["single", s].result() for s in (seed, seed + 1)]
        assert found["parameters"] == 2 * singles[0]["parameters"]
        for metric, values in differences.items():
            values.append(metrics[metric] - np.mean([s["metrics"][metric] for s in singles]))
        # Jensen: the mean probability is never less likely than the mean of the log-likelihoods.
        assert differences["test/loss"][-1] < 0
    for metric, values in differences.items():
        entry = panels[metric]["pair"]
        assert entry["members"] == {"0": [0, 1], "2": [2, 3]}
        assert entry["n"] == 2 and panels[metric]["single"]["n"] == 5
        assert entry["difference"]["mean"] == pytest.approx(np.mean(values))
    assert json.loads((trained.workdir / "experiment.json").read_text())["groups"] == {
        "pair": {"0": [0, 1], "2": [2, 3]}
    }


def test_launched_again_everything_stands(trained, ask):
    before = {run.directory: run.result() for run in trained.runs()}
    run_study(ask(), None, "test")
    assert before == {run.directory: run.result() for run in trained.runs()}


def test_an_ensemble_has_no_network_of_its_own(trained, capsys):
    pair, single = trained.workdir / "pair/seed_2", trained.workdir / "single"
    members = f"pair/seed_2 is an ensemble, .*: {single}/seed_2, {single}/seed_3$"
    with pytest.raises(UserError, match=f"--checkpoint: .*{members}"):
        open_trained(str(pair), None, {})
    with pytest.raises(UserError, match=f"init_from: .*{members}"):
        best_variables(pair)
    evaluate_study(trained, None)
    printed = capsys.readouterr().out
    assert printed.count("single") == 5 and "pair" not in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": (0,)}, r"arm pair: ensemble\.size: found 2 with 1 seeds"),
        ({"arms": ["pairs"]}, r"ensemble\.of: arm: found pair, an ensemble"),
        ({"arms": ["lost"]}, r"ensemble\.of: arm: found 'singel'.*did you mean 'single'"),
        ({"overrides": {"experiment.baseline": "pair"}}, r"experiment\.baseline: found pair, an"),
        (
            {"overrides": {"train.head": "sigmoid"}},
            r"train\.head: found 'sigmoid' with an ensemble",
        ),
    ],
)
def test_ensembles_that_cannot_be(ask, options, words):
    with pytest.raises(UserError, match=words):
        ask(**options)


def test_members_of_another_head_are_refused(trained, tmp_path, make_run, digits, mesh):
    single, other = trained.workdir / "single/seed_0", tmp_path / "sigmoid"
    other.mkdir()
    (other / "checkpoints").symlink_to(single / "checkpoints")
    record, result = (read_json(single / f"{name}.json") for name in ("config", "result"))
    record["train"]["head"] = "sigmoid"
    write_json(other / "config.json", record)
    write_json(other / "result.json", result | {"config": record})
    pair = make_run("pair", {"ensemble.members": (str(single), str(other))})
    with pytest.raises(UserError, match=r"sigmoid has train\.head='sigmoid', expected 'softmax'"):
        judge(pair, digits, mesh)
    assert pair.result() is None


def test_a_certain_member_does_not_make_the_loss_infinite(tiny, digits):
    task, labels = make_task(tiny(), digits), np.array([3, 4])
    certain = Evaluation({}, labels=labels, probabilities=np.eye(10)[[3, 5]])
    found = together(task, [certain, certain])
    assert found.metrics["accuracy"] == 0.5 and np.isfinite(found.metrics["loss"])


def test_weights_of_the_last_steps_are_averaged(make_run, train_run, digits, mesh):
    """Those that the last half of the steps leave, all alike; and the statistics of batch norm are
    those that the mean weights have on all training images."""
    changes = {"train.swa": 0.5, "train.steps": 6, "train.eval_every": 1, "train.keep": 6}
    changes |= {"model.norm": "batch", "model.hidden": (8,)}
    result = train_run("swa", changes)
    raw = train_run("raw", changes | {"train.swa": 0.0})
    assert result["params_digest"] == raw["params_digest"]  # it trains as ever
    trained = {
        name: [
            open_trained(str(make_run(name).directory / "checkpoints" / str(step)), None, {})
            for step in (4, 5, 6)
        ]
        for name in ("swa", "raw")
    }
    mean = jax.tree.map(lambda *p: sum(p) / 3, *(t.variables["params"] for t in trained["raw"]))
    averaged = trained["swa"][-1].variables
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        averaged["params"],
        mean,
    )
    images = digits.train.arrays()["image"].reshape(1257, -1) / 255
    task = trained["swa"][-1].task
    entering = (images - task.mean[0]) / task.std[0] @ mean["dense1"]["kernel"]
    stats = averaged["batch_stats"]["norm1"]
    np.testing.assert_allclose(stats["mean"], entering.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(stats["var"], entering.var(0), rtol=1e-3)


def test_swa_whether_or_not_it_is_cut(train_run):
    changes = {"train.swa": 0.7, "model.norm": "batch", "train.steps": 6, "train.eval_every": 2}
    whole = train_run("whole", changes)

    def cut(step, steps, row):
        if step == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_run("cut", changes, watch=cut)
    resumed = train_run("cut", changes)
    assert resumed["resumed_from"] == [4]
    assert resumed["params_digest"] == whole["params_digest"]
    assert resumed["metrics"]["test/loss"] == whole["metrics"]["test/loss"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train.swa": 0.5, "train.ema": 0.9}, r"train\.swa: found 0\.5 with train\.ema=0\.9"),
        ({"train.swa": 1.5}, r"train\.swa: found 1\.5, expected at least 0 and at most 1"),
        ({"train.swa": 0.5, "transfer.freeze": ("*",)}, r"train\.swa: .*transfer\.freeze"),
    ],
)
def test_averages_that_cannot_be(tiny, changes, words):
    with pytest.raises(UserError, match=words):
        validate(override(tiny(), changes, "test"))
