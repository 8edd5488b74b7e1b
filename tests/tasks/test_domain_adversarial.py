"""Domain-adversarial training: the reversed gradient, its schedule, and both halves of a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import UserError
from research.data.sources import load_dataset
from research.tasks.additions import of_model
from research.tasks.domain_adversarial import reverse_gradient
from research.train.start import starting_variables
from research.train.tasks import make_task

DANN = {
    "model.hidden": (8,),
    "transfer.adapt": "dann",
    "transfer.target_domain": "inverted",
    "transfer.adversary": 0.7,
    "train.steps": 60,
}


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("digits", target_domain="inverted")


@pytest.fixture(scope="module")
def batch(dataset):
    images, labels = dataset.train.arrays().values()
    target = dataset.target.train.arrays()["image"]
    mask = np.ones(32, np.float32)
    return {"image": images[:32], "label": labels[:32], "mask": mask, "target": target[40:72]}


def test_the_gradient_is_reversed_in_closed_form():
    x = jnp.array([1.0, -2.0, 3.0])
    np.testing.assert_array_equal(reverse_gradient(x, 0.3), x)
    # d/dx Σ (2x)² = 8x, reversed −0.3 · 8x; what comes after the reversal is untouched by it.
    found = jax.grad(lambda x: jnp.sum((2 * reverse_gradient(x, jnp.float32(0.3))) ** 2))(x)
    np.testing.assert_allclose(found, -0.3 * 8 * x, rtol=1e-6)
    weight = jax.grad(lambda w: jnp.sum((w * reverse_gradient(x, jnp.float32(0.3))) ** 2))(2.0)
    np.testing.assert_allclose(weight, 2 * 2 * jnp.sum(x**2), rtol=1e-6)
    half = jax.grad(lambda x: jnp.sum(reverse_gradient(x, jnp.float32(0.3))))(x.astype("bfloat16"))
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize("step", [0, 15, 60])
def test_gradients_are_ganins(tiny, dataset, batch, step):
    """The features' is that of the class loss less λ times the domain loss's, by the schedule."""
    config = tiny(DANN)
    task = make_task(config, dataset)
    variables = task.init(jax.random.key(0), batch)
    variables["schedule"]["step"] = jnp.int32(step)
    rest = {k: v for k, v in variables.items() if k != "params"}

    def total(params):
        return task.loss({"params": params, **rest}, batch, jax.random.key(1))[0]

    def forward(params, images):
        x = (images.reshape(len(images), -1) / 255.0 - task.mean[0]) / task.std[0]
        dense1, head = params["dense1"], params["head"]
        features = jax.nn.relu(x @ dense1["kernel"] + dense1["bias"])
        return features, features @ head["kernel"] + head["bias"]

    def class_loss(params):
        log = jax.nn.log_softmax(forward(params, batch["image"])[1])
        return -jnp.mean(log[jnp.arange(32), batch["label"]])

    def domain_loss(params):
        features = jnp.concatenate([forward(params, batch[k])[0] for k in ("image", "target")])
        one, two = params["domain_head"]["dense1"], params["domain_head"]["dense2"]
        hidden = jax.nn.relu(features @ one["kernel"] + one["bias"])
        logits = (hidden @ two["kernel"] + two["bias"])[:, 0]
        right = jnp.where(jnp.arange(64) < 32, -logits, logits)
        return -jnp.mean(jax.nn.log_sigmoid(right))

    found = jax.grad(total)(variables["params"])
    of_class, of_domain = (jax.grad(f)(variables["params"]) for f in (class_loss, domain_loss))
    weight = 0.7 * (2 / (1 + np.exp(-10 * step / 60)) - 1)
    for layer, factor in (("dense1", -weight), ("head", 0.0), ("domain_head", 1.0)):
        trees = (found[layer], of_class[layer], of_domain[layer])
        for got, c, d in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_allclose(got, c + factor * d, rtol=1e-3, atol=1e-5)
    loss, (collections, sums, _) = task.loss(variables, batch, jax.random.key(1))
    assert float(loss) == pytest.approx(
        float(class_loss(variables["params"]) + domain_loss(variables["params"])), rel=1e-4
    )
    assert int(collections["schedule"]["step"]) == step + 1
    assert float(sums["count"]) == 32 and 0 <= float(sums["domain_accuracy"]) <= 32
    assert float(sums["domain_loss"]) / 32 == pytest.approx(
        float(domain_loss(variables["params"])), rel=1e-4
    )


def test_the_targets_labels_are_not_looked_at(tiny, dataset, batch):
    """A batch does not even hold them; and the class loss is that of the source alone."""
    task, plain = (make_task(tiny(c), dataset) for c in (DANN, DANN | {"transfer.adapt": "none"}))
    variables = task.init(jax.random.key(0), batch)
    sums = task.loss(variables, batch, jax.random.key(1))[1][1]
    source = {k: v for k, v in batch.items() if k != "target"}
    alone = plain.loss(of_model(variables), source, jax.random.key(1))[1][1]
    for name in ("loss", "accuracy", "count"):
        assert float(sums[name]) == pytest.approx(float(alone[name]), rel=1e-5)


def test_a_run_whether_or_not_it_is_cut(train_run, dataset):
    """It goes on in the same place of both feeds and of the schedule."""
    changes = DANN | {"train.steps": 4, "model.norm": "batch"}
    whole = train_run("whole", changes, dataset=dataset)

    def cut(step, steps, row):
        if step == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_run("cut", changes, dataset=dataset, watch=cut)
    resumed = train_run("cut", changes, dataset=dataset)
    assert resumed["resumed_from"] == [2] and resumed["params_digest"] == whole["params_digest"]
    assert {"target/accuracy", "train/domain_accuracy", "train/domain_loss"} <= {*whole["metrics"]}


@pytest.mark.parametrize("changes", [{"train.accumulate": 2}, {"train.precision": "bfloat16"}])
def test_with_other_switches(train_run, dataset, changes):
    result = train_run("run", DANN | {"train.steps": 2} | changes, dataset=dataset)
    assert result["status"] == "finished"


def test_it_starts_from_a_run_without_a_discriminator(train_run, make_run, tiny, dataset):
    source = train_run("source", {"model.hidden": (8,)}, dataset=dataset)
    config = tiny(DANN | {"init_from": str(make_run("source").directory)})
    task = make_task(config, dataset)
    fresh = task.init(jax.random.key(0), {"image": np.zeros((1, 8, 8, 1), np.uint8)})
    variables = starting_variables(config, dataset, fresh)
    assert variables["params"]["domain_head"] is not None and source["status"] == "finished"
    assert not np.array_equal(
        variables["params"]["dense1"]["kernel"], fresh["params"]["dense1"]["kernel"]
    )


def test_mixing_images_would_mix_domains(tiny, dataset):
    with pytest.raises(UserError, match=r"data\.augment: found mixup with transfer\.adapt=dann"):
        make_task(tiny(DANN | {"data.augment": ("mixup",)}), dataset)
