from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import log_softmax

from research.models import create_model
from research.models.network import Network
from research.tasks.classification import Classification

RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (16, 8, 8, 3)).astype(np.uint8),
    "label": RNG.integers(0, 5, 16).astype(np.int32),
    "mask": np.ones(16, np.float32),
}
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


def make_task(**changes):
    model = create_model("mlp", hidden=(8,), num_classes=5, norm=changes.pop("norm", "none"))
    return Classification(model, MEAN, STD, **changes)


def logits_of(task, variables):
    images = (BATCH["image"] / 255 - np.array(MEAN)) / np.array(STD)
    return np.asarray(task.model.apply(variables, jnp.float32(images))[0], np.float64)


def test_evaluation_standardises_and_sums():
    task = make_task(label_smoothing=0.3, augmentations=("flip", "pad_crop"))
    variables = task.init(jax.random.key(0), BATCH)
    logits = logits_of(task, variables)
    batch = BATCH | {"mask": np.float32(np.arange(16) < 11)}
    sums, examples = task.evaluate(variables, batch)
    losses = -log_softmax(logits, axis=1)[np.arange(16), BATCH["label"]]
    np.testing.assert_allclose(sums["loss"], losses[:11].sum(), rtol=1e-5)
    assert sums["accuracy"] == np.sum(logits.argmax(1)[:11] == BATCH["label"][:11])
    assert sums["count"] == 11
    np.testing.assert_allclose(examples["outputs"], logits, atol=1e-5)
    np.testing.assert_array_equal(examples["label"], BATCH["label"])
    np.testing.assert_array_equal(examples["mask"], batch["mask"])


def test_training_loss_is_the_smoothed_mean():
    task = make_task(label_smoothing=0.3)
    variables = task.init(jax.random.key(0), BATCH)
    targets = 0.7 * np.eye(5)[BATCH["label"]] + 0.3 / 5
    losses = -np.sum(targets * log_softmax(logits_of(task, variables), axis=1), axis=1)
    loss, (collections, sums, endpoints) = task.loss(variables, BATCH, jax.random.key(1))
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(sums["loss"], losses.sum(), rtol=1e-5)
    assert collections == {} and endpoints["act1"].shape == (16, 8)


class TwoHeads(Network):
    aux_weights: ClassVar = {"aux/logits": 0.25, "other/logits": 9.0}  # this one is switched off

    @nn.compact
    def __call__(self, x, *, train=False):
        x = x.reshape(len(x), -1)
        logits, aux = (nn.Dense(self.num_classes, name=name)(x) for name in ("head", "aux"))
        return logits, {"logits": logits} | ({"aux/logits": aux} if train else {})


def test_auxiliary_heads_add_their_share_to_the_training_loss():
    task = Classification(TwoHeads(num_classes=5), MEAN, STD, label_smoothing=0.3)
    variables = task.init(jax.random.key(0), BATCH)
    images = (BATCH["image"] / 255 - np.array(MEAN)) / np.array(STD)
    targets = 0.7 * np.eye(5)[BATCH["label"]] + 0.3 / 5
    losses = {}
    for name, layer in variables["params"].items():
        logits = images.reshape(16, -1) @ np.float64(layer["kernel"]) + layer["bias"]
        losses[name] = -np.mean(np.sum(targets * log_softmax(logits, axis=1), axis=1))
    loss, (_, sums, _) = task.loss(variables, BATCH, jax.random.key(1))
    np.testing.assert_allclose(loss, losses["head"] + 0.25 * losses["aux"], rtol=1e-5)
    np.testing.assert_allclose(sums["loss"] / 16, loss, rtol=1e-5)
    head = -log_softmax(logits_of(task, variables), axis=1)[np.arange(16), BATCH["label"]]
    np.testing.assert_allclose(task.evaluate(variables, BATCH)[0]["loss"], head.sum(), rtol=1e-5)


def test_training_draws_augmentations_from_its_key():
    task = make_task(augmentations=("flip",))
    variables = task.init(jax.random.key(0), BATCH)
    losses = [float(task.loss(variables, BATCH, jax.random.key(k))[0]) for k in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_mixed_labels_are_trained_on_by_their_shares():
    """The loss is of the mixture; accuracy is of the class with the largest share of it."""
    task = make_task(augmentations=("mixup(alpha=1)",), label_smoothing=0.2, num_classes=5)
    variables = task.init(jax.random.key(0), BATCH)
    loss, (_, sums, _) = task.loss(variables, BATCH, jax.random.key(1))
    augment_key, _ = jax.random.split(jax.random.key(1))
    own = jax.random.beta(jax.random.fold_in(augment_key, 0), 1.0, 1.0, (16,))
    own = np.asarray(own, np.float64)
    mixed = own[:, None, None, None] * BATCH["image"]
    mixed += (1 - own)[:, None, None, None] * np.roll(BATCH["image"], 1, 0)
    targets = own[:, None] * np.eye(5)[BATCH["label"]]
    targets += (1 - own)[:, None] * np.eye(5)[np.roll(BATCH["label"], 1)]
    images = jnp.float32((mixed / 255 - np.array(MEAN)) / np.array(STD))
    logits = np.asarray(task.model.apply(variables, images)[0], np.float64)
    losses = -np.sum((0.8 * targets + 0.2 / 5) * log_softmax(logits, axis=1), axis=1)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    assert sums["accuracy"] == np.sum(logits.argmax(1) == targets.argmax(1))


def test_batch_statistics_move_in_training_and_not_in_evaluation():
    task = make_task(norm="batch")
    variables = task.init(jax.random.key(0), BATCH)
    _, (collections, _, _) = task.loss(variables, BATCH, jax.random.key(1))
    assert set(collections) == {"batch_stats"}
    moved = jax.tree.map(jnp.array_equal, collections["batch_stats"], variables["batch_stats"])
    assert not any(jax.tree.leaves(moved))
    moved = variables | collections
    before, after = (task.evaluate(v, BATCH)[0]["loss"] for v in (variables, moved))
    assert before != after


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_loss_is_at_least_float32(dtype):
    model = create_model("mlp", hidden=(8,), num_classes=5, dtype=dtype)
    task = Classification(model, MEAN, STD, dtype=dtype)
    variables = task.init(jax.random.key(0), BATCH)
    assert task.loss(variables, BATCH, jax.random.key(1))[0].dtype == jnp.float32


def test_class_weights_count_in_training_alone():
    weights = (0.0, 1.0, 2.0, 3.0, 4.0)
    task, plain = make_task(class_weights=weights), make_task()
    variables = task.init(jax.random.key(0), BATCH)
    losses = -log_softmax(logits_of(task, variables), axis=1)[np.arange(16), BATCH["label"]]
    loss, _ = task.loss(variables, BATCH, jax.random.key(1))
    np.testing.assert_allclose(loss, np.mean(losses * np.array(weights)[BATCH["label"]]), rtol=1e-5)
    one_hot = BATCH | {"label": np.eye(5, dtype=np.float32)[BATCH["label"]]}
    np.testing.assert_allclose(task.loss(variables, one_hot, jax.random.key(1))[0], loss, rtol=1e-5)
    assert task.evaluate(variables, BATCH)[0]["loss"] == plain.evaluate(variables, BATCH)[0]["loss"]
