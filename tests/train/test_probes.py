"""What the best checkpoint is asked at the end, each against NumPy or scipy."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import scipy.ndimage

from research.checks import validate
from research.config import UserError
from research.data.sources import load_dataset
from research.inspection.invariance import DIRECTIONS, moved_by
from research.tasks.heads import HEADS
from research.train.probes import shift


@pytest.mark.parametrize("pixels", [*DIRECTIONS, (2, -3)])
def test_images_move_as_scipy_moves_them(digits, pixels):
    images = digits.test.arrays()["image"][:5]
    moved = scipy.ndimage.shift(images, (0, *pixels, 0), order=0, mode="nearest")
    np.testing.assert_array_equal(moved_by(images, pixels), moved)


def test_shift_counts_the_predictions_that_stay(digits, mesh):
    """Of a model that names the column with the most ink, on every image exactly once."""

    def evaluate(variables, batch):
        ink = np.asarray(batch["image"], np.float32).sum((1, 3))
        return {}, {"outputs": jax.numpy.asarray(ink)}

    program = SimpleNamespace(evaluate=evaluate, task=SimpleNamespace(head=HEADS["softmax"]))
    found = shift(program, {}, digits, {}, None, mesh=mesh, batch_size=100, feed="resident")
    images = digits.test.arrays()["image"].astype(np.float32)
    before = images.sum((1, 3)).argmax(1)
    same = [
        scipy.ndimage.shift(images, (0, *by, 0), order=0, mode="nearest").sum((1, 3)).argmax(1)
        == before
        for by in DIRECTIONS
    ]
    assert 0.1 < np.mean(same) < 0.9
    assert found["shift_consistency"] == pytest.approx(np.mean(same), rel=1e-12)


def test_a_run_is_probed_at_its_end(train_run):
    """A network that learns the training images by heart has a gap."""
    changes = {"train.probes": ("gap", "shift"), "train.steps": 300, "train.eval_every": 300}
    metrics = train_run("probed", changes | {"train.log_every": 300})["metrics"]
    assert metrics["gap"] == metrics["train_set/accuracy"] - metrics["test/accuracy"] > 0
    assert metrics["train_set/loss"] < metrics["test/loss"]
    assert 0.2 < metrics["shift_consistency"] < 1


def test_an_unknown_probe_is_refused(tiny):
    with pytest.raises(UserError, match=r"train.probes: found 'shfit', .*did you mean 'shift'"):
        validate(tiny({"train.probes": ("shfit",)}))


def test_the_target_domain_is_tested_on_and_changes_nothing_else(train_run):
    """By a run that is trained on originals and one that is trained on what it is tested on."""
    results = {
        name: train_run(
            name,
            {"data.domain": domain, "transfer.target_domain": target, "train.steps": 60},
            dataset=load_dataset("digits", domain=domain, target_domain=target),
        )
        for name, domain, target in [
            ("plain", "original", ""),
            ("source", "original", "inverted"),
            ("oracle", "inverted", "inverted"),
        ]
    }
    found = {name: result["metrics"] for name, result in results.items()}
    assert results["plain"]["params_digest"] == results["source"]["params_digest"]
    assert found["source"]["test/accuracy"] == found["plain"]["test/accuracy"] > 0.8
    assert "target/accuracy" not in found["plain"]
    assert found["source"]["target/accuracy"] < 0.5
    assert found["oracle"]["target/accuracy"] == found["oracle"]["test/accuracy"] > 0.8
